#include "qemu_arguments.h"

#include <iostream>

#include "presentation.h"

namespace vtpm::control {
namespace {

std::string socket_of(const wire::proto::Instance& instance) {
    return "/run/xen-vtpm/swtpm/" + instance.name() + ".sock";
}

std::string joined(const std::vector<std::string>& words, const std::string& around,
                   const std::string& between) {
    std::string text;
    for (const auto& word : words)
        text += (text.empty() ? "" : between) + around + word + around;
    return text;
}

}  // namespace

std::vector<std::string> qemu_arguments(const wire::proto::Instance& instance) {
    const bool has_crb = instance.tpm() == static_cast<std::uint32_t>(tpm::Version::v2_0);
    return {"-chardev", "socket,id=vtpmctrl,path=" + socket_of(instance),
            "-tpmdev",  "emulator,id=vtpm0,chardev=vtpmctrl",
            "-device",  std::string(has_crb ? "tpm-crb" : "tpm-tis") + ",tpmdev=vtpm0"};
}

Result<void> qemu(ManagerConnection& manager, const std::string& selector, Output output) {
    wire::proto::Request request;
    request.mutable_show()->set_selector(selector);
    VTPM_TRY(const auto answer, manager.ask(request));
    const auto& instance = answer.message.instance();
    const auto arguments = qemu_arguments(instance);
    const std::string unit = "vtpm-swtpm@" + instance.name() + ".service";
    if (output.json) {
        print_json({{"unit", unit}, {"socket", socket_of(instance)}, {"arguments", arguments}});
        return {};
    }
    std::cout << "Start its service:\n\n    systemctl enable --now " << unit
              << "\n\nGive QEMU these arguments:\n\n    " << joined(arguments, "", " ")
              << "\n\nOr write into the xl file of an HVM guest:\n\n    "
                 "device_model_args_hvm = [ "
              << joined(arguments, "\"", ", ") << " ]\n";
    return {};
}

}  // namespace vtpm::control
