// EsysConnection: one TCTI and the ESYS context on it; LoadedHandle: something of ours in the chip.
//
// Private to the chip room. One thread. The connection must outlive its handles.
#pragma once

#include <tss2/tss2_esys.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "vtpm/base/bytes.h"
#include "vtpm/base/result.h"

namespace vtpm::chip {

class EsysConnection {
  public:
    // Connects, starts a chip that no firmware has started (a bare swtpm), and flushes what a
    // process that died with the chip open has left there.
    static Result<std::unique_ptr<EsysConnection>> open(const std::string& tcti);
    ~EsysConnection();
    EsysConnection(const EsysConnection&) = delete;
    EsysConnection& operator=(const EsysConnection&) = delete;

    ESYS_CONTEXT* esys() { return esys_; }

    // Runs one command; sends it again while the chip asks for that, up to about 5 s.
    Result<void> run(std::string_view what, const std::function<TSS2_RC()>& command);

    // After an error below ESAPI its state machine does not recover: connect again.
    bool broken() const { return broken_; }

    // Overwrites what the last command left in tpm2-tss' buffers. It wipes nothing by itself: the
    // decrypted answer stays in the SAPI buffer until a longer one comes.
    void overwrite_buffers();

    // Computed by ESYS from the public area that it was told.
    Result<Bytes> name_of(ESYS_TR handle);
    // The Name that ESYS puts into every HMAC. It was told this one as well and has not compared
    // the two, but the chip has: it refuses a command that carries another Name than its own.
    Result<Bytes> name_in_hmacs(ESYS_TR handle);
    // All that ESYS has for a handle: a u32 handle, the Name in HMACs, its type, the public area.
    Result<Bytes> serialized(ESYS_TR handle);

    void flush(ESYS_TR handle);

  private:
    EsysConnection() = default;
    Result<void> start();
    Result<void> flush_leftovers(TPM2_HANDLE first);
    Result<void> flush_raw(TPM2_HANDLE handle);

    TSS2_TCTI_CONTEXT* tcti_ = nullptr;
    ESYS_CONTEXT* esys_ = nullptr;
    bool broken_ = false;
};

// A transient object or session that is flushed, or a persistent object that is let go.
class LoadedHandle {
  public:
    enum class End { flush, close };
    LoadedHandle(EsysConnection& connection, ESYS_TR handle, End end)
        : connection_(&connection), handle_(handle), end_(end) {}
    LoadedHandle(LoadedHandle&& other) noexcept;
    LoadedHandle& operator=(LoadedHandle&& other) noexcept;
    LoadedHandle(const LoadedHandle&) = delete;
    LoadedHandle& operator=(const LoadedHandle&) = delete;
    ~LoadedHandle();

    ESYS_TR get() const { return handle_; }
    void forget() { handle_ = ESYS_TR_NONE; }  // it is gone already

  private:
    EsysConnection* connection_;
    ESYS_TR handle_;
    End end_;
};

// Owner of what ESYS allocates for an answer. The content is wiped before it is freed, secret or
// not: tpm2-tss frees without wiping.
struct EsysWipe {
    template <typename T>
    void operator()(T* answer) const {
        wipe_and_free(answer, sizeof(T));
    }
    static void wipe_and_free(void* answer, std::size_t size);
};
template <typename T>
using EsysAnswer = std::unique_ptr<T, EsysWipe>;

}  // namespace vtpm::chip
