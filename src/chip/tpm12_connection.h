// Tpm12Connection: commands to a TPM 1.2, and the sessions that authorize them.
//
// A session is good for one command (continueAuthSession is never set): the answer of one that
// somebody else has made does not verify. Private to the chip room. One thread; the connection must
// outlive its sessions.
//
// TCG TPM Main 1.2, Part 1 clauses 18.3 (OIAP), 18.4 (OSAP), 18.5 (ADIP); Part 3.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tpm12_link.h"
#include "tpm12_structures.h"

namespace vtpm::chip::tpm12 {

class Tpm12Connection;

// An open session of ours, ended by its command or with the object.
class Session {
  public:
    Session(Session&& other) noexcept;
    Session& operator=(Session&&) = delete;
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session();

    // A new authorization value, hidden for the way to the chip. For a session by osap().
    Sha1 hidden(ByteView auth) const;

  private:
    friend class Tpm12Connection;
    Session(Tpm12Connection& connection, std::uint32_t handle, ByteView nonce, SecretBytes key);

    Tpm12Connection* connection_;  // null: it has ended
    std::uint32_t handle_;
    Sha1 nonce_even_{};
    SecretBytes key_;
};

// What a command is about.
struct Parameters {
    std::vector<std::uint32_t> handles = {};  // not in the HMAC
    Views parts = {};                         // in the HMAC
};

class Tpm12Connection {
  public:
    // Connects, starts a chip that no firmware has started, ends what others have left open.
    // Errc::unsupported: it is no TPM 1.2.
    static Result<std::unique_ptr<Tpm12Connection>> open(const std::string& tcti);

    bool broken() const { return broken_; }
    // Of the last command's answer, also if it was an error; success if none came.
    Code code() const { return code_; }

    // The parameters of the answer. Errc::chip with NextAction::ask_operator: its HMAC is not that
    // of somebody who knows the authorization value.
    Result<SecretBytes> run(Ordinal ordinal, const Parameters& parameters,
                            std::initializer_list<Session*> sessions = {});

    Result<Session> oiap(ByteView auth);
    Result<Session> osap(std::uint16_t entity_type, std::uint32_t entity, ByteView auth);

    Result<SecretBytes> capability(std::uint32_t area, ByteView sub);
    void flush(std::uint32_t handle, std::uint32_t type);

  private:
    explicit Tpm12Connection(Tpm12Link link) : link_(std::move(link)) {}
    Result<void> start();
    Result<void> flush_leftovers();
    Result<SecretBytes> patiently(Ordinal ordinal, ByteView command);
    Result<SecretBytes> exchange(ByteView command);

    Tpm12Link link_;
    Code code_ = Code::success;
    bool broken_ = false;
    bool started_ = false;  // TPM_Startup is behind us
};

inline constexpr std::uint16_t et_owner = 2;
inline constexpr std::uint16_t et_srk = 4;
inline constexpr std::uint32_t cap_property = 0x05;
inline constexpr std::uint32_t cap_nv_list = 0x0d;
inline constexpr std::uint32_t cap_nv_index = 0x11;
inline constexpr std::uint32_t cap_handle = 0x14;
inline constexpr std::uint32_t cap_version_value = 0x1a;

}  // namespace vtpm::chip::tpm12
