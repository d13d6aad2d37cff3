// What the drill's tests share: a host, a journal that can be read, and conquered guests.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <sstream>

#include "escapes.h"
#include "integration/sim/bench.h"

namespace vtpm::drill {

using namespace vtpm::fakes;
using namespace std::chrono_literals;

// Standard error of all daemons, which we start, in a file; ours too, meanwhile.
class Journal {
  public:
    explicit Journal(const std::filesystem::path& path) : path_(path), before_(::dup(2)) {
        const Fd file(::open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600));
        ::dup2(file.get(), 2);
    }
    Journal(const Journal&) = delete;
    Journal& operator=(const Journal&) = delete;
    // What a sanitizer had to say is not to be lost with the file.
    ~Journal() {
        ::dup2(before_.get(), 2);
        for (const auto* words : {"Sanitizer: ", "runtime error: "}) {
            for (const auto& line : lines(words))
                std::cerr << line << '\n';
        }
    }

    std::string text() const {
        std::ostringstream all;
        all << std::ifstream(path_, std::ios::binary).rdbuf();
        return all.str();
    }
    // Lines that hold `words`.
    std::vector<std::string> lines(const std::string& words) const {
        std::vector<std::string> found;
        std::istringstream all(text());
        for (std::string line; std::getline(all, line);) {
            if (line.find(words) != std::string::npos)
                found.push_back(line);
        }
        return found;
    }

  private:
    std::filesystem::path path_;
    Fd before_;
};

struct Stage {
    NoProcessLeft first;
    TemporaryDirectory scratch;
    Journal journal{scratch.path() / "journal"};
    SimHost host;
    Uuid uuid = host.create(tpm::Version::v2_0);
    SimGuest victim{host, 5, uuid};
    xen::DomainId next_domain = 1000;  // none of integration-sim's, which may run beside

    Stage() { boot(victim); }

    // A guest whose engine tries `escape` instead of being a TPM.
    std::unique_ptr<SimGuest> conquered(const Escape& escape, bool with_filter = true) {
        ::setenv(escape_variable, std::string(escape.name).c_str(), 1);
        ::setenv(victim_variable, std::to_string(victim.engine_pid()).c_str(), 1);
        ::setenv(uuid_variable, uuid.to_string().c_str(), 1);
        if (with_filter)
            ::unsetenv(no_filter_variable);
        else
            ::setenv(no_filter_variable, "1", 1);
        host.set_engine(VTPM_DRILL_ENGINE);
        auto guest =
            std::make_unique<SimGuest>(host, next_domain++, host.create(tpm::Version::v2_0));
        boot(*guest);
        host.set_engine(VTPM_REAL_ENGINE);
        return guest;
    }
};

}  // namespace vtpm::drill
