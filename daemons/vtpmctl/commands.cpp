#include "commands.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iostream>

#include "presentation.h"
#include "secret_file.h"

namespace vtpm::control {
namespace {

using wire::proto::Instance;
using wire::proto::Request;

void print(const nlohmann::json& json) {
    std::cout << json.dump(2) << "\n";
}

void print(const Instance& instance, Output output) {
    if (output.json)
        return print(to_json(instance));
    std::cout << describe(instance);
}

// The file that will hold the recovery key. Made before the key is, and never over another file: a
// key that cannot be written down must not come into being.
class RecoveryFile {
  public:
    explicit RecoveryFile(std::string path) : path_(std::move(path)) {}
    ~RecoveryFile() {
        if (file_.valid() && !kept_)
            ::unlink(path_.c_str());
    }
    RecoveryFile(const RecoveryFile&) = delete;
    RecoveryFile& operator=(const RecoveryFile&) = delete;

    Result<void> make() {
        file_ = Fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (!file_.valid() && errno == EEXIST) {
            return fail(Errc::already_exists, path_ + " exists; name a new file");
        }
        if (!file_.valid())
            return fail_errno(path_, errno);
        return {};
    }
    Result<void> keep(const SecretBytes& key) {
        VTPM_CHECK(write_all(file_.get(), key.view()));
        if (::fsync(file_.get()) != 0)
            return fail_errno(path_, errno);
        kept_ = true;
        return keep_name();
    }

  private:
    // The file's entry in its directory has to outlive a power cut as well.
    Result<void> keep_name() {
        const auto parent = std::filesystem::absolute(path_).parent_path();
        const Fd directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!directory.valid() || ::fsync(directory.get()) != 0)
            return fail_errno(parent.string(), errno);
        return {};
    }

    std::string path_;
    Fd file_;
    bool kept_ = false;
};

Result<Answer> ask_setup(ManagerConnection& manager, const SetupOptions& options) {
    Request request;
    request.mutable_setup()->set_recovery_key(!options.recovery_out.empty());
    request.mutable_setup()->set_replace(options.replace_key);
    if (options.recovery_out.empty())
        return manager.ask(request);
    RecoveryFile file(options.recovery_out);
    VTPM_CHECK(file.make());
    VTPM_TRY(auto answer, manager.ask(request));
    if (answer.payload.empty())
        return fail(Errc::malformed, "vtpmmgrd sent no recovery key");
    VTPM_CHECK(file.keep(answer.payload));
    return answer;
}

// A recovery key's file is a few hundred bytes.
constexpr std::size_t max_recovery_key = 16UL * 1024;

}  // namespace

int exit_code(const Error& error) {
    switch (error.code) {
        case Errc::unavailable:
        case Errc::timeout:
            return 3;
        case Errc::locked:
        case Errc::not_set_up:
        case Errc::chip:
        case Errc::not_approved:
        case Errc::latched:
        case Errc::wrong_chip:
        case Errc::wrong_cell:
        case Errc::rolled_back:
            return 4;
        case Errc::not_found:
            return 5;
        case Errc::in_use:
            return 6;
        default:
            return 1;
    }
}

Result<void> setup(ManagerConnection& manager, const SetupOptions& options, Output output) {
    const std::string& recovery_out = options.recovery_out;
    const auto answer = ask_setup(manager, options);
    const bool before = !answer && answer.error().code == Errc::already_exists &&
                        recovery_out.empty();  // setting up twice is not a mistake
    if (!answer && !before)
        return tl::make_unexpected(answer.error());
    if (output.json) {
        nlohmann::json json = {{"already_set_up", before}};
        if (answer)
            json["manager"] = uuid_text(answer->message.setup().manager());
        if (!recovery_out.empty())
            json["recovery_key"] = recovery_out;
        print(json);
        return {};
    }
    if (before) {
        std::cout << "This host is set up already; nothing was changed.\n";
        return {};
    }
    std::cout << "This host is manager " << uuid_text(answer->message.setup().manager())
              << ". Its keys are sealed to the host's TPM.\n";
    if (recovery_out.empty()) {
        std::cout
            << "No recovery key was made: if the TPM or the mainboard dies, so do the guests' "
               "TPMs.\nTo make one: vtpmctl setup --recovery-out FILE\n";
    } else {
        std::cout << "The recovery key is in " << recovery_out
                  << ". Move it off this machine: who has it and the disk has every guest's TPM.\n";
    }
    std::cout << "Next: vtpmctl create --name NAME\n";
    return {};
}

Result<void> describe_new(const std::string& name, const std::string& uuid,
                          wire::proto::Create& into) {
    into.set_name(name);
    if (!uuid.empty()) {
        VTPM_TRY(const auto parsed, Uuid::parse(uuid));
        into.set_uuid(parsed.bytes().data(), Uuid::size);
    }
    return {};
}

Result<void> create(ManagerConnection& manager, const CreateOptions& options, Output output) {
    VTPM_TRY(const auto version, tpm::parse_version(options.tpm));
    Request request;
    VTPM_CHECK(describe_new(options.name, options.uuid, *request.mutable_create()));
    request.mutable_create()->set_tpm(static_cast<std::uint32_t>(version));
    request.mutable_create()->set_sync(options.sync);
    VTPM_TRY(const auto answer, manager.ask(request));
    if (output.json) {
        print(to_json(answer.message.instance()));
    } else {
        std::cout << xl_line(answer.message.instance()) << "\n";
    }
    return {};
}

Result<void> list(ManagerConnection& manager, Output output) {
    std::vector<Instance> instances;
    for (bool more = true; more;) {
        Request request;
        request.mutable_list();
        if (!instances.empty())
            request.mutable_list()->set_after(instances.back().uuid());
        VTPM_TRY(const auto answer, manager.ask(request));
        const auto& page = answer.message.page();
        instances.insert(instances.end(), page.instance().begin(), page.instance().end());
        more = page.more() && page.instance_size() > 0;
    }
    std::sort(instances.begin(), instances.end(),
              [](const auto& a, const auto& b) { return a.name() < b.name(); });
    if (!output.json) {
        std::cout << table(instances);
        return {};
    }
    auto json = nlohmann::json::array();
    for (const auto& instance : instances)
        json.push_back(to_json(instance));
    print(json);
    return {};
}

Result<void> show(ManagerConnection& manager, const std::string& selector, Output output) {
    Request request;
    request.mutable_show()->set_selector(selector);
    VTPM_TRY(const auto answer, manager.ask(request));
    print(answer.message.instance(), output);
    return {};
}

Result<void> rename(ManagerConnection& manager, const std::string& selector,
                    const std::string& name, Output output) {
    Request request;
    request.mutable_rename()->set_selector(selector);
    request.mutable_rename()->set_name(name);
    VTPM_TRY(const auto answer, manager.ask(request));
    print(answer.message.instance(), output);
    return {};
}

Result<void> remove(ManagerConnection& manager, const std::string& selector, Output output) {
    Request request;
    request.mutable_remove()->set_selector(selector);
    VTPM_TRY(const auto answer, manager.ask(request));
    if (output.json) {
        print(to_json(answer.message.instance()));
    } else {
        std::cout << "deleted " << answer.message.instance().name() << " ("
                  << uuid_text(answer.message.instance().uuid())
                  << "); its key is destroyed and its uuid will not be used again\n";
    }
    return {};
}

Result<void> recover(ManagerConnection& manager, const std::string& key_file, Output output) {
    SecretBytes key;
    if (!key_file.empty()) {
        VTPM_TRY(key, read_secret_file(key_file, max_recovery_key));
    }
    Request request;
    request.mutable_recover();
    VTPM_TRY(const auto answer, manager.ask(request, key.view()));
    if (output.json) {
        print(to_json(answer.message.status()));
        return {};
    }
    std::cout << "What is on the disk counts as the newest state from now on.\n"
              << describe(answer.message.status());
    return {};
}

Result<void> status(ManagerConnection& manager, Output output) {
    Request request;
    request.mutable_status();
    VTPM_TRY(const auto answer, manager.ask(request));
    if (output.json) {
        print(to_json(answer.message.status()));
    } else {
        std::cout << describe(answer.message.status());
    }
    return {};
}

}  // namespace vtpm::control
