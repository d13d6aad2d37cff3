#include "import_swtpm.h"

#include <iostream>

#include "presentation.h"
#include "swtpm_state.h"

namespace vtpm::control {
namespace {

Result<std::optional<SwtpmKey>> key_of(const ImportSwtpmOptions& options) {
    if (!options.key.empty())
        return SwtpmKey::from_key_file(options.key);
    if (!options.passphrase.empty())
        return SwtpmKey::from_passphrase_file(options.passphrase);
    return std::nullopt;
}

void explain(const wire::proto::Instance& made, const SwtpmState& state,
             const std::string& source) {
    std::cout << xl_line(made) << "\n"
              << made.name() << " is the TPM " << tpm::to_string(state.version) << " of " << source
              << " now, as after a power cycle. Nothing was changed there.\n";
    for (const auto& name : state.left_out) {
        std::cout << "Left out: " << name
                  << ". The TPM was suspended, not shut down; its guest has to boot, and cannot be "
                     "resumed.\n";
    }
    std::cout
        << "Next: put the first line into the guest's xl file, with no other TPM in it, and "
           "boot the guest.\n"
           "Keep "
        << source
        << " until it has booted with its TPM, but let no swtpm start there again: they would "
           "be two TPMs with one identity. Then erase it and its backups.\n";
}

}  // namespace

Result<void> import_swtpm(ManagerConnection& manager, const ImportSwtpmOptions& options,
                          Output output) {
    VTPM_TRY(const auto key, key_of(options));
    std::optional<tpm::Version> version;
    if (!options.tpm.empty()) {
        VTPM_TRY(version, tpm::parse_version(options.tpm));
    }
    wire::proto::Request request;
    VTPM_CHECK(describe_new(options.name, options.uuid, *request.mutable_create_with_state()));
    VTPM_TRY(const SwtpmState state,
             read_swtpm_state(options.source, version, key ? &*key : nullptr));
    request.mutable_create_with_state()->set_group(options.group);
    request.mutable_create_with_state()->set_sync(options.sync);
    request.mutable_create_with_state()->set_tpm(static_cast<std::uint32_t>(state.version));
    VTPM_TRY(const auto answer, manager.ask(request, state.permanent.view()));
    if (!output.json) {
        explain(answer.message.instance(), state, options.source);
        return {};
    }
    auto json = to_json(answer.message.instance());
    json["source"] = options.source;
    json["encrypted_source"] = key.has_value();
    json["left_out"] = state.left_out;
    std::cout << json.dump(2) << "\n";
    return {};
}

}  // namespace vtpm::control
