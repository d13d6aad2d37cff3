// Swtpm12: a software TPM 1.2 with an endorsement key, as a host's chip is when it is sold; nobody
// owns it yet.
#pragma once

#include "fakes/chip/swtpm.h"
#include "fakes/tpm_commands.h"

namespace vtpm::fakes {

class Swtpm12 : public Swtpm {
  public:
    explicit Swtpm12(const std::filesystem::path& directory)
        : Swtpm(directory, "not-need-init,startup-clear", {}) {
        if (raw(tpm_commands::v12::create_endorsement_key()).at(9) != 0)
            throw std::runtime_error("swtpm makes no endorsement key");
    }

    // A command by hand; the answer.
    Bytes raw(const Bytes& command) const {
        const Fd fd = connect_to(socket());
        Bytes answer(4096);
        if (!fd.valid() || !write_all(fd.get(), command))
            throw std::runtime_error("no swtpm");
        const auto size = ::read(fd.get(), answer.data(), answer.size());
        if (size < 10)
            throw std::runtime_error("swtpm gave no answer");
        answer.resize(static_cast<std::size_t>(size));
        return answer;
    }

    // What a boot measures.
    void extend(std::uint32_t pcr, std::uint8_t filler) const {
        if (raw(tpm_commands::v12::extend(pcr, filler)).at(9) != 0)
            throw std::runtime_error("swtpm does not extend");
    }
};

}  // namespace vtpm::fakes
