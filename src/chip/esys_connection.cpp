#include "esys_connection.h"

#include <tss2/tss2_tctildr.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>

#include "chip_errors.h"
#include "vtpm/base/secret_bytes.h"
namespace vtpm::chip {
namespace {

// 20, 40, ... 1280, 1280, 1280 ms: a self-test takes up to a second on slow chips.
constexpr int max_tries = 9;
constexpr std::chrono::milliseconds first_pause{20};
constexpr std::chrono::milliseconds longest_pause{1280};

}  // namespace

void EsysWipe::wipe_and_free(void* answer, std::size_t size) {
    wipe({static_cast<std::uint8_t*>(answer), size});
    Esys_Free(answer);
}

Result<std::unique_ptr<EsysConnection>> EsysConnection::open(const std::string& tcti) {
    if (tcti.empty())
        return fail(Errc::invalid_argument, "no TCTI given");
    // Not an override: who debugs tpm2-tss sets TSS2_LOG.
    ::setenv("TSS2_LOG", "all+NONE", 0);
    std::unique_ptr<EsysConnection> connection(new EsysConnection);
    if (const auto rc = Tss2_TctiLdr_Initialize(tcti.c_str(), &connection->tcti_);
        rc != TSS2_RC_SUCCESS) {
        connection->tcti_ = nullptr;
        return fail_connect(tcti, rc);
    }
    if (const auto rc = Esys_Initialize(&connection->esys_, connection->tcti_, nullptr);
        rc != TSS2_RC_SUCCESS) {
        connection->esys_ = nullptr;
        return fail_chip("Esys_Initialize", rc);
    }
    VTPM_CHECK(connection->start());
    VTPM_CHECK(connection->flush_leftovers(TPM2_TRANSIENT_FIRST));
    VTPM_CHECK(connection->flush_leftovers(TPM2_LOADED_SESSION_FIRST));
    return connection;
}

EsysConnection::~EsysConnection() {
    if (esys_ != nullptr) {
        if (!broken_)
            overwrite_buffers();
        Esys_Finalize(&esys_);
    }
    if (tcti_ != nullptr)
        Tss2_TctiLdr_Finalize(&tcti_);
}

Result<void> EsysConnection::run(std::string_view what, const std::function<TSS2_RC()>& command) {
    if (broken_)
        return fail(Errc::unavailable, std::string(what) + ": the chip was lost");
    auto pause = first_pause;
    for (int tried = 1;; ++tried) {
        const TSS2_RC rc = command();
        if (rc == TSS2_RC_SUCCESS)
            return {};
        if (worth_another_try(rc) && tried < max_tries) {
            std::this_thread::sleep_for(pause);
            pause = std::min(pause * 2, longest_pause);
            continue;
        }
        if (tpm_code(rc) == 0)
            broken_ = true;
        return fail_chip(what, rc);
    }
}

Result<void> EsysConnection::start() {
    TSS2_RC answer = TSS2_RC_SUCCESS;
    VTPM_CHECK(run("TPM2_GetCapability", [&] {
        TPMS_CAPABILITY_DATA* data = nullptr;
        answer =
            Esys_GetCapability(esys_, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                               TPM2_CAP_TPM_PROPERTIES, TPM2_PT_MANUFACTURER, 1, nullptr, &data);
        Esys_Free(data);
        return tpm_code(answer) == TPM2_RC_INITIALIZE ? TSS2_RC_SUCCESS : answer;
    }));
    if (answer == TSS2_RC_SUCCESS)
        return {};
    return run("TPM2_Startup", [&] { return Esys_Startup(esys_, TPM2_SU_CLEAR); });
}

// Behind /dev/tpm0 the chip is ours alone (a second open is EBUSY, and /dev/tpmrm0 saves its users'
// things between commands); behind a resource manager we see only what is ours. So whatever
// transient object or loaded session is there belonged to somebody who is gone. Saved sessions and
// persistent objects are never touched.
Result<void> EsysConnection::flush_leftovers(TPM2_HANDLE first) {
    EsysAnswer<TPMS_CAPABILITY_DATA> handles;
    VTPM_CHECK(run("TPM2_GetCapability", [&] {
        TPMS_CAPABILITY_DATA* data = nullptr;
        const auto rc =
            Esys_GetCapability(esys_, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_HANDLES,
                               first, TPM2_MAX_CAP_HANDLES, nullptr, &data);
        handles.reset(data);
        return rc;
    }));
    // All of the asked kind; a loaded policy session is listed under 0x03, not 0x02.
    const auto& list = handles->data.handles;
    for (UINT32 i = 0; i < list.count && i < TPM2_MAX_CAP_HANDLES; ++i) {
        VTPM_CHECK(flush_raw(list.handle[i]));
    }
    return {};
}

// ESYS flushes only what it has met before, so this one command goes by hand (Part 3 clause 28.4).
Result<void> EsysConnection::flush_raw(TPM2_HANDLE handle) {
    const Bytes command =
        ByteWriter().u16(TPM2_ST_NO_SESSIONS).u32(14).u32(TPM2_CC_FlushContext).u32(handle).take();
    return run("TPM2_FlushContext", [&]() -> TSS2_RC {
        // The macros of tss2_tcti.h, without their C casts.
        const auto* const tcti = reinterpret_cast<const TSS2_TCTI_CONTEXT_COMMON_V1*>(tcti_);
        auto rc = tcti->transmit(tcti_, command.size(), command.data());
        if (rc != TSS2_RC_SUCCESS)
            return rc;
        std::array<std::uint8_t, 4096> answer{};
        std::size_t size = answer.size();
        rc = tcti->receive(tcti_, &size, answer.data(), TSS2_TCTI_TIMEOUT_BLOCK);
        if (rc != TSS2_RC_SUCCESS)
            return rc;
        ByteReader reader({answer.data(), std::min(size, answer.size())});
        const auto header = reader.bytes(6);
        const auto code = reader.u32();
        return header && code ? *code : TSS2_TCTI_RC_MALFORMED_RESPONSE;
    });
}

namespace {

// tpm2-tss copies what it marshals onto its stack, too, and leaves it there; how deep depends on
// the build.
[[gnu::noinline]] void overwrite_dead_stack() {
    std::array<std::uint8_t, 128UL * 1024> dead;
    wipe(dead);
}

}  // namespace

void EsysConnection::overwrite_buffers() {
    overwrite_dead_stack();
    TPMS_CAPABILITY_DATA* data = nullptr;
    const auto rc =
        Esys_GetCapability(esys_, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_COMMANDS,
                           TPM2_CC_FIRST, TPM2_MAX_CAP_CC, nullptr, &data);
    if (rc != TSS2_RC_SUCCESS && tpm_code(rc) == 0)
        broken_ = true;
    Esys_Free(data);
}

Result<Bytes> EsysConnection::name_of(ESYS_TR handle) {
    EsysAnswer<TPM2B_NAME> name;
    VTPM_CHECK(run("Esys_TR_GetName", [&] {
        TPM2B_NAME* answer = nullptr;
        const auto rc = Esys_TR_GetName(esys_, handle, &answer);
        name.reset(answer);
        return rc;
    }));
    return Bytes(name->name, name->name + std::min<std::size_t>(name->size, sizeof name->name));
}

Result<Bytes> EsysConnection::serialized(ESYS_TR handle) {
    std::unique_ptr<std::uint8_t, decltype(&std::free)> buffer(nullptr, &std::free);
    std::size_t size = 0;
    VTPM_CHECK(run("Esys_TR_Serialize", [&] {
        std::uint8_t* answer = nullptr;
        const auto rc = Esys_TR_Serialize(esys_, handle, &answer, &size);
        buffer.reset(answer);
        return rc;
    }));
    return Bytes(buffer.get(), buffer.get() + size);
}

Result<Bytes> EsysConnection::name_in_hmacs(ESYS_TR handle) {
    VTPM_TRY(const Bytes all, serialized(handle));
    ByteReader reader(all);
    VTPM_CHECK(reader.u32());
    VTPM_TRY(const auto size, reader.u16());
    VTPM_TRY(const ByteView name, reader.bytes(size));
    return Bytes(name.begin(), name.end());
}

void EsysConnection::flush(ESYS_TR handle) {
    if (broken_)
        return;
    // What cannot be flushed now is a leftover for the next connection.
    const auto flushed = run("TPM2_FlushContext", [&] { return Esys_FlushContext(esys_, handle); });
    if (!flushed)
        broken_ = true;
}

LoadedHandle::LoadedHandle(LoadedHandle&& other) noexcept
    : connection_(other.connection_),
      handle_(std::exchange(other.handle_, ESYS_TR_NONE)),
      end_(other.end_) {}

LoadedHandle& LoadedHandle::operator=(LoadedHandle&& other) noexcept {
    LoadedHandle taken(std::move(other));
    std::swap(connection_, taken.connection_);
    std::swap(handle_, taken.handle_);
    std::swap(end_, taken.end_);
    return *this;
}

LoadedHandle::~LoadedHandle() {
    if (handle_ == ESYS_TR_NONE)
        return;
    if (end_ == End::flush) {
        connection_->flush(handle_);
    } else {
        Esys_TR_Close(connection_->esys(), &handle_);
    }
}

}  // namespace vtpm::chip
