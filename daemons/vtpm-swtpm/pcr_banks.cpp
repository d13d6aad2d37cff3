#include "pcr_banks.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "control_message.h"
#include "vtpm/base/log.h"
#include "vtpm/tpm/message.h"

namespace vtpm::swtpm {
namespace {

constexpr std::chrono::seconds transmit_time{30};
constexpr std::size_t largest_answer = 4096;

std::string names_of(const tpm::PcrBanks& banks) {
    std::string names;
    for (const auto bank : banks)
        names += (names.empty() ? "" : ", ") + std::string(tpm::to_string(bank));
    return names;
}

// The engine writes an answer in one piece.
Result<Bytes> transmit(int socket, ByteView command) {
    VTPM_CHECK(write_all(socket, command));
    pollfd wanted{socket, POLLIN, 0};
    const auto wait = std::chrono::milliseconds(transmit_time).count();
    if (::poll(&wanted, 1, static_cast<int>(wait)) <= 0)
        return fail(Errc::timeout, "the TPM does not answer");
    std::array<std::uint8_t, largest_answer> answer{};
    const auto got = ::recv(socket, answer.data(), answer.size(), MSG_DONTWAIT);
    if (got < 0)
        return fail_errno("the data channel", errno);
    return Bytes(answer.begin(), answer.begin() + got);
}

Result<void> allocate(int socket, const tpm::PcrBanks& banks) {
    VTPM_TRY(const auto before, transmit(socket, tpm::ask_pcr_banks()));
    VTPM_TRY(const bool has_them, tpm::has_pcr_banks(before, banks));
    if (has_them)
        return {};
    VTPM_TRY(const auto answer, transmit(socket, tpm::allocate_pcrs(banks)));
    if (!tpm::has_allocated(answer))
        return fail(Errc::unsupported, "the TPM does not take these banks of PCRs: it answers " +
                                           to_hex(answer) + " to TPM2_PCR_Allocate");
    spdlog::info("from the next start on its banks of PCRs are {}", names_of(banks));
    return {};
}

Result<void> allocate_with_power(SocketTpm& tpm, const tpm::PcrBanks& banks) {
    VTPM_TRY(auto channel, stream_socket_pair());
    VTPM_CHECK(tpm.begin());
    if (tpm.set_data(std::move(channel.second)) != result::success ||
        tpm.init(true) != result::success)
        return fail(Errc::unavailable, "the TPM did not start, as said above");
    const auto allocated = allocate(channel.first.get(), banks);
    // What was allocated comes into force with the shutdown that this brings.
    const bool ended = tpm.finish();
    if (!allocated || ended)
        return allocated;
    return fail(Errc::unavailable, "the TPM was not shut down, as said above");
}

Result<void> change_wish(const FoundInstance& instance, const std::string& manager,
                         const tpm::PcrBanks& banks) {
    auto policy = instance.policy;
    VTPM_TRY(const auto wished, tpm::pcr_banks_of({policy.bank().data(),
                                                   static_cast<std::size_t>(policy.bank_size())}));
    if (wished == banks)
        return {};
    policy.clear_bank();
    for (const auto bank : banks)
        policy.add_bank(static_cast<std::uint32_t>(bank));
    VTPM_CHECK(change_policy(manager, instance.uuid, policy));
    spdlog::info("it will be made with the banks of PCRs {}", names_of(banks));
    return {};
}

}  // namespace

Result<void> set_pcr_banks(SocketTpm& tpm, const FoundInstance& instance,
                           const std::string& manager, const tpm::PcrBanks& banks) {
    if (instance.tpm != tpm::Version::v2_0)
        return fail(Errc::invalid_argument,
                    instance.name + " is a TPM 1.2, whose PCRs have one bank");
    if (instance.in_use)
        return fail(Errc::in_use, instance.name + " is in use: its machine has to be off");
    return instance.is_made ? allocate_with_power(tpm, banks)
                            : change_wish(instance, manager, banks);
}

}  // namespace vtpm::swtpm
