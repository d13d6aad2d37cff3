#include "cheater.h"

#include <cstring>
#include <stdexcept>
#include <thread>

#include "fakes/tpm_commands.h"

namespace vtpm::cheat {
namespace {

std::unique_ptr<xen::LibxenStore> open_store() {
    auto store = xen::LibxenStore::open();
    if (!store)
        throw std::runtime_error(store.error().context);
    return std::move(*store);
}

}  // namespace

void required(const Result<void>& done) {
    if (!done)
        throw std::runtime_error(done.error().context);
}

Result<xen::OpenPort> Ports::open(xen::DomainId peer) {
    auto opened = ports_.open(peer);
    if (opened)
        last_ = opened->channel.get();
    return opened;
}

Cheater::Cheater()
    : store_(open_store()), other_store_(open_store()), device_(*store_, grants_, ports_, path) {}

void Cheater::connect() {
    required(device_.connect(std::chrono::seconds(60)));
}

Bytes Cheater::transmit(ByteView command, Milliseconds patience) {
    Bytes answer(xen::tpmif::max_packet);
    const auto size = device_.ring().transmit(command, 0, answer, patience);
    answer.resize(size ? *size : 0);
    return answer;
}

void Cheater::put(const xen::tpmif::Header& header, ByteView packet) {
    auto first = header;
    first.state = xen::tpmif::state::idle;
    std::memcpy(raw() + sizeof(first), packet.data(), packet.size());
    std::memcpy(raw(), &first, sizeof(first));
    page().publish(header.state);
}

bool Cheater::answered(const xen::tpmif::Header& header, ByteView packet, Milliseconds patience) {
    put(header, packet);
    ring();
    const auto end = Clock::now() + patience;
    while (page().state() == header.state) {
        if (Clock::now() > end)
            return false;
        std::this_thread::sleep_for(Milliseconds(1));
    }
    return true;
}

void Cheater::forget_key() {
    Bytes handle(4);
    page().copy_in(10, handle);
    transmit(tpm_commands::v20::flush_context(handle));
}

void Cheater::write(const std::string& node, const std::string& value) {
    (void)other_store_->write(std::string(path) + "/" + node, value);
}

}  // namespace vtpm::cheat
