// A whole back end on a thread, on fakes: BackDevice over a FakeStore, BackRing over what the
// FakeGrantShare and FakeEventPorts of the front end gave out. It echoes, with the locality first.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "fakes/xen/fake_domains.h"
#include "fakes/xen/fake_event_ports.h"
#include "fakes/xen/fake_grant_share.h"
#include "fakes/xen/fake_store.h"
#include "fakes/xen/plug_in.h"
#include "vtpm/xen/back_device.h"
#include "vtpm/xen/back_ring.h"

namespace vtpm::xen {

class FakeBackEnd final : public BackDeviceOwner, public RequestHandler {
  public:
    FakeBackEnd(FakeStoreTree& tree, FakeGrantShare& grants, FakeEventPorts& ports)
        : store_(tree), grants_(grants), ports_(ports), stop_(::eventfd(0, EFD_CLOEXEC)) {
        domains_.set(7, DomainState::running);
    }
    ~FakeBackEnd() override {
        ::eventfd_write(stop_.get(), 1);
        if (thread_.joinable())
            thread_.join();
    }
    FakeBackEnd(const FakeBackEnd&) = delete;
    FakeBackEnd& operator=(const FakeBackEnd&) = delete;

    void run() {
        thread_ = std::thread([this] { loop(); });
    }

    std::atomic<bool> slow = false;  // a request then runs until it is cancelled
    std::atomic<unsigned> connects = 0;
    std::atomic<unsigned> faults = 0;
    std::atomic<unsigned> requests = 0;

    Result<void> connect(const RingAddress& address) override {
        VTPM_TRY(auto page, grants_.map(address.ring_ref));
        VTPM_TRY(auto channel, ports_.bind(address.event_channel));
        page_.emplace(std::move(page));
        channel_ = std::move(channel);
        ring_.emplace(page_->page(), *channel_);
        ++connects;
        return {};
    }
    void disconnect() override {
        ring_->close();
        ring_.reset();
        channel_.reset();
        page_.reset();
    }
    void power_off(const DomainLife&) override {}
    void gone() override {}

    std::size_t handle(ByteView request, std::uint8_t locality, MutableByteView response) override {
        ++requests;
        while (slow && !ring_->cancel_requested())
            std::this_thread::yield();
        response[0] = locality;
        const auto size = std::min(request.size(), response.size() - 1);
        std::copy_n(request.begin(), size, response.begin() + 1);
        return size + 1;
    }
    std::size_t refuse(RequestFault, MutableByteView) override {
        ++faults;
        return 0;
    }

  private:
    void loop() {
        using Clock = BackDevice::Clock;
        if (!device_.start() || !device_.announce(Clock::now(), "2.0"))
            return;
        for (;;) {
            pollfd fds[] = {{stop_.get(), POLLIN, 0},
                            {store_.fd(), POLLIN, 0},
                            {channel_ ? channel_->fd() : -1, POLLIN, 0}};
            const auto deadline = device_.next_deadline();
            const auto wait = deadline ? std::chrono::ceil<std::chrono::milliseconds>(
                                             std::max(*deadline - Clock::now(), Clock::duration()))
                                       : std::chrono::milliseconds(-1);
            ::poll(fds, 3, static_cast<int>(wait.count()));
            if (fds[0].revents != 0)
                return;
            if (!device_.update(Clock::now()) || !serve())
                return;
        }
    }
    Result<void> serve() {
        if (!ring_)
            return {};
        VTPM_CHECK(channel_->consume());
        for (;;) {
            VTPM_TRY(const auto served, ring_->serve(*this));
            if (served == Served::nothing)
                return {};
        }
    }

    FakeStore store_;
    FakeDomains domains_;
    FakeGrantShare& grants_;
    FakeEventPorts& ports_;
    BackDevice device_{store_, domains_, *this, 7, 0};
    std::optional<MappedPage> page_;
    std::unique_ptr<FakeEventChannel> channel_;
    std::optional<BackRing> ring_;
    Fd stop_;
    std::thread thread_;
};

}  // namespace vtpm::xen
