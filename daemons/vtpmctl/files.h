// The files that a person names on vtpmctl's command line: read within bounds, written never over
// another file.
#pragma once

#include <string>

#include "vtpm/base/fd.h"
#include "vtpm/base/secret_bytes.h"

namespace vtpm::control {

// A recovery key or an approver's key has a few hundred bytes.
inline constexpr std::size_t max_key_file = 16UL * 1024 - 1;

// The whole of a file, or of what a pipe brings. Errc::invalid_argument if it is empty, too_large
// beyond `limit` bytes: then it is not what the caller takes it for.
Result<SecretBytes> read_secret(const std::string& path, std::size_t limit = max_key_file);

// A file that need not be secret. One that is not there is Errc::io: Errc::not_found is said of
// TPMs and groups.
Result<Bytes> read_named_file(const std::string& path, std::size_t limit);

// A public key in PEM. A private one is refused: it has no business to come here.
Result<std::string> read_public_key(const std::string& path);

// A file of ours that does not exist yet. Made before what goes into it is: what cannot be written
// down must not come into being. Gone again unless keep() was called and went well.
class NewFile {
  public:
    explicit NewFile(std::string path) : path_(std::move(path)) {}
    ~NewFile();
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;

    // Errc::already_exists if there is anything of that name.
    Result<void> make(unsigned mode);
    // All that `from` gives, to be kept with what follows.
    Result<void> copy(const Fd& from);
    // Durable when it returns.
    Result<void> keep(ByteView content);
    // As if keep() had not been called.
    void forget() { kept_ = false; }

  private:
    Result<void> keep_name();

    std::string path_;
    Fd file_;
    bool kept_ = false;
};

}  // namespace vtpm::control
