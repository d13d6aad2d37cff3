#include "tpm12_connection.h"

#include <openssl/rand.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>

#include "tpm12_errors.h"

namespace vtpm::chip::tpm12 {
namespace {

constexpr std::uint16_t tag_command = 0xc1;  // plus the number of sessions
constexpr std::uint16_t tag_answer = 0xc4;   // plus the number of sessions
constexpr std::size_t session_tail = sha1_size + 1 + sha1_size;
constexpr std::array<std::uint8_t, 1> session_ends{0};
constexpr std::uint32_t max_handles = 256;

constexpr int max_tries = 9;  // 20, 40, ... 1280 ms
constexpr std::chrono::milliseconds first_pause{20};
constexpr std::chrono::milliseconds longest_pause{1280};

Sha1 fresh_nonce() {
    Sha1 nonce{};
    if (::RAND_bytes(nonce.data(), static_cast<int>(nonce.size())) != 1)
        throw std::runtime_error("OpenSSL has no random bytes");
    return nonce;
}

Sha1 digest_of(Views first, Views second) {
    const SecretBytes a = joined(first);
    const SecretBytes b = joined(second);
    return sha1({a.view(), b.view()});
}

tl::unexpected<Error> fail_answer(Ordinal ordinal, std::string_view why) {
    return fail(Errc::malformed, NextAction::ask_operator,
                std::string(name_of(ordinal)) + ": the chip's answer " + std::string(why));
}

}  // namespace

Session::Session(Tpm12Connection& connection, std::uint32_t handle, ByteView nonce, SecretBytes key)
    : connection_(&connection), handle_(handle), key_(std::move(key)) {
    std::copy(nonce.begin(), nonce.end(), nonce_even_.begin());
}

Session::Session(Session&& other) noexcept
    : connection_(std::exchange(other.connection_, nullptr)),
      handle_(other.handle_),
      nonce_even_(other.nonce_even_),
      key_(std::move(other.key_)) {}

Session::~Session() {
    // A command that failed may have ended it, or not.
    if (connection_ != nullptr && !connection_->broken())
        connection_->flush(handle_, rt_auth);
}

Sha1 Session::hidden(ByteView auth) const {
    Sha1 pad = sha1({key_.view(), nonce_even_});
    for (std::size_t i = 0; i < pad.size(); ++i)
        pad.at(i) = static_cast<std::uint8_t>(pad.at(i) ^ auth[i]);
    return pad;
}

Result<std::unique_ptr<Tpm12Connection>> Tpm12Connection::open(const std::string& tcti) {
    VTPM_TRY(Tpm12Link link, Tpm12Link::open(tcti));
    std::unique_ptr<Tpm12Connection> connection(new Tpm12Connection(std::move(link)));
    VTPM_CHECK(connection->start());
    connection->started_ = true;
    VTPM_CHECK(connection->flush_leftovers());
    return connection;
}

Result<void> Tpm12Connection::start() {
    const auto version = capability(cap_version_value, {});
    if (version)
        return {};
    if (broken_ || code_ != Code::invalid_postinit)
        return tl::make_unexpected(version.error());
    const Bytes clear = ByteWriter().u16(1).take();  // TPM_ST_CLEAR
    VTPM_CHECK(run(Ordinal::startup, {.parts = {clear}}));
    return {};
}

// The device is ours alone; what is open there belonged to somebody who is gone.
Result<void> Tpm12Connection::flush_leftovers() {
    VTPM_TRY(const SecretBytes list, capability(cap_handle, u32_bytes(rt_auth)));
    ByteReader reader(list.view());
    VTPM_TRY(const auto count, reader.u16());
    for (std::uint32_t i = 0; i < count && i < max_handles; ++i) {
        VTPM_TRY(const auto handle, reader.u32());
        flush(handle, rt_auth);
    }
    return {};
}

void Tpm12Connection::flush(std::uint32_t handle, std::uint32_t type) {
    const Bytes what = ByteWriter().u32(handle).u32(type).take();
    (void)run(Ordinal::flush_specific, {.parts = {what}});
}

Result<SecretBytes> Tpm12Connection::exchange(ByteView command) {
    code_ = Code::success;  // not that of an answer before, if none comes
    if (broken_)
        return fail(Errc::unavailable, "the chip was lost");
    auto answer = link_.exchange(command);
    if (!answer)
        broken_ = true;
    return answer;
}

// Again while the chip asks for that.
Result<SecretBytes> Tpm12Connection::patiently(Ordinal ordinal, ByteView command) {
    auto pause = first_pause;
    for (int tried = 1;; ++tried) {
        auto answer = exchange(command);
        if (!answer)
            return tl::make_unexpected(std::move(answer).error().within(name_of(ordinal)));
        ByteReader reader(answer->view().subspan(2 + 4));
        VTPM_TRY(const auto code, reader.u32());
        code_ = static_cast<Code>(code);
        const bool busy = code_ == Code::retry || code_ == Code::doing_self_test ||
                          code_ == Code::needs_self_test;
        if (!busy || tried == max_tries)
            return answer;
        if (code_ == Code::needs_self_test) {
            const Bytes test = ByteWriter()
                                   .u16(tag_command)
                                   .u32(Tpm12Link::header_size)
                                   .u32(static_cast<std::uint32_t>(Ordinal::continue_self_test))
                                   .take();
            VTPM_CHECK(exchange(test));
        }
        std::this_thread::sleep_for(pause);
        pause = std::min(pause * 2, longest_pause);
    }
}

Result<SecretBytes> Tpm12Connection::run(Ordinal ordinal, const Parameters& parameters,
                                         std::initializer_list<Session*> sessions) {
    const Bytes number = u32_bytes(static_cast<std::uint32_t>(ordinal));
    const SecretBytes inputs = joined(parameters.parts);
    const Sha1 digest = sha1({number, inputs.view()});
    ByteWriter handles;
    for (const std::uint32_t handle : parameters.handles)
        handles.u32(handle);
    ByteWriter tail;
    std::vector<Sha1> odd;
    for (Session* const session : sessions) {
        odd.push_back(fresh_nonce());
        tail.u32(session->handle_).bytes(odd.back()).bytes(session_ends);
        tail.bytes(hmac_sha1(session->key_.view(),
                             {digest, session->nonce_even_, odd.back(), session_ends}));
    }
    const auto count = static_cast<std::uint16_t>(sessions.size());
    const std::size_t size =
        Tpm12Link::header_size + handles.written().size() + inputs.size() + tail.written().size();
    if (size > Tpm12Link::max_message)
        return fail(Errc::too_large, "more than a TPM 1.2 takes at once");
    const Bytes header = ByteWriter()
                             .u16(static_cast<std::uint16_t>(tag_command + count))
                             .u32(static_cast<std::uint32_t>(size))
                             .bytes(number)
                             .take();
    const SecretBytes command = joined({header, handles.written(), inputs.view(), tail.written()});
    VTPM_TRY(const SecretBytes answer, patiently(ordinal, command.view()));

    ByteReader reader(answer.view());
    VTPM_TRY(const auto tag, reader.u16());
    // It was reset under us: all that was proved about it was proved before.
    if (code_ == Code::invalid_postinit || code_ == Code::invalid_auth_handle)
        broken_ = started_;
    if (code_ != Code::success)
        return fail_code(ordinal, code_);
    const std::size_t outer = Tpm12Link::header_size + count * session_tail;
    if (tag != tag_answer + count || answer.size() < outer) {
        broken_ = true;
        return fail_answer(ordinal, "does not parse");
    }
    const ByteView outputs = answer.view().subspan(Tpm12Link::header_size, answer.size() - outer);
    const Sha1 said = digest_of({u32_bytes(0), number}, {outputs});
    ByteReader tails(answer.view().subspan(answer.size() - count * session_tail));
    auto nonce = odd.begin();
    for (Session* const session : sessions) {
        VTPM_TRY(const ByteView even, tails.bytes(sha1_size));
        VTPM_TRY(const ByteView goes_on, tails.bytes(1));
        VTPM_TRY(const ByteView mac, tails.bytes(sha1_size));
        const Sha1 right = hmac_sha1(session->key_.view(), {said, even, *nonce++, goes_on});
        if (!equal_constant_time(mac, right)) {
            return fail(Errc::chip, NextAction::ask_operator,
                        std::string(name_of(ordinal)) +
                            ": the answer is not from the chip that we know; somebody changes "
                            "what is on its bus");
        }
        if (goes_on[0] == 0)
            session->connection_ = nullptr;
    }
    return SecretBytes::copy_of(outputs);
}

Result<Session> Tpm12Connection::oiap(ByteView auth) {
    VTPM_TRY(const SecretBytes answer, run(Ordinal::oiap, {}));
    ByteReader reader(answer.view());
    VTPM_TRY(const auto handle, reader.u32());
    VTPM_TRY(const ByteView nonce, reader.bytes(sha1_size));
    return Session(*this, handle, nonce, SecretBytes::copy_of(auth));
}

Result<Session> Tpm12Connection::osap(std::uint16_t entity_type, std::uint32_t entity,
                                      ByteView auth) {
    const Sha1 odd = fresh_nonce();
    const Bytes what = ByteWriter().u16(entity_type).u32(entity).take();
    VTPM_TRY(const SecretBytes answer, run(Ordinal::osap, {.parts = {what, odd}}));
    ByteReader reader(answer.view());
    VTPM_TRY(const auto handle, reader.u32());
    VTPM_TRY(const ByteView nonce, reader.bytes(sha1_size));
    VTPM_TRY(const ByteView even, reader.bytes(sha1_size));
    Sha1 shared = hmac_sha1(auth, {even, odd});
    Session session(*this, handle, nonce, SecretBytes::copy_of(shared));
    wipe(shared);
    return session;
}

Result<SecretBytes> Tpm12Connection::capability(std::uint32_t area, ByteView sub) {
    const Bytes what =
        ByteWriter().u32(area).u32(static_cast<std::uint32_t>(sub.size())).bytes(sub).take();
    VTPM_TRY(const SecretBytes answer, run(Ordinal::get_capability, {.parts = {what}}));
    ByteReader reader(answer.view());
    VTPM_TRY(const auto size, reader.u32());
    if (size != reader.left())
        return fail_answer(Ordinal::get_capability, "does not parse");
    return SecretBytes::copy_of(reader.rest());
}

}  // namespace vtpm::chip::tpm12
