// A guest, a toolstack and a hypervisor that write what they like into xenstore, in any order and
// in the middle of our reads, against BackDevice; and a back end that does, against FrontDevice.
#include <poll.h>

#include <optional>

#include "fakes/xen/fake_domains.h"
#include "fakes/xen/fake_event_ports.h"
#include "fakes/xen/fake_grant_share.h"
#include "fakes/xen/fake_store.h"
#include "fakes/xen/recording_owner.h"
#include "input.h"
#include "vtpm/xen/back_device.h"
#include "vtpm/xen/front_device.h"
#include "vtpm/xen/store_number.h"

using namespace vtpm;
using namespace vtpm::xen;
using fuzz::Input;
using fuzz::must;

namespace {

const std::string own = "/local/domain/0/backend/vtpm/7/0";
const std::string frontend = "/local/domain/7/device/vtpm/0";
const std::string error = "/local/domain/0/error/backend/vtpm/7/0";

// A node's value as the other side would write it, or not.
std::string value(Input& input, std::initializer_list<const char*> usual) {
    if (!input.rarely())
        return *(usual.begin() + static_cast<std::ptrdiff_t>(input.pick(usual.size())));
    constexpr std::array odd = {"",   "0",  "-1",         "+8",         " 8", "8 ", "0x8",
                                "08", "8.", "4294967295", "4294967296", "7",  "٣",  "3\n"};
    // Whatever is ours to write never has a '!': see texts_are_ours().
    return input.flag() ? odd[input.pick(odd.size())] : "!" + input.text(5000);
}

class World {
  public:
    explicit World(Input& input) : input_(input) {
        domains_.set(7, DomainState::running);
        tree_.write(frontend + "/backend", own);
        tree_.write(frontend + "/backend-id", "0");
        tree_.write(frontend + "/state", "1");
        tree_.write(own + "/frontend", input.rarely() ? input.text(200) : frontend);
        tree_.write(own + "/frontend-id", value(input, {"7"}));
        tree_.write(own + "/online", "1");
        tree_.write(own + "/uuid", value(input, {"0f8fad5b-d9cb-469f-a165-70867728950e"}));
        tree_.write(own + "/state", "1");
        start();
    }

    void act() {
        switch (input_.pick(12)) {
            case 0:
            case 1:
                tree_.write(frontend + "/state", value(input_, {"1", "2", "3", "4", "5", "6"}));
                break;
            case 2:
            case 3:
                offer();
                break;
            case 4:
                odd_node();
                break;
            case 5:
                toolstack();
                break;
            case 6:
                domain();
                break;
            case 7:
                now_ += std::chrono::milliseconds(input_.u16());
                break;
            case 8:
                store_->fail_call(input_.u8());
                break;
            case 9:
                refuse();
                break;
            case 10:
                write_during_a_read();
                break;
            default:
                vtpmd();
        }
        run();
    }

    // Once nobody does anything odd any more, the device can be seen off.
    void see_off() {
        settle();
        if (!tree_.read(own + "/state")) {
            must(device_->finished(), "a device that is gone is not over");
            return;
        }
        tree_.write(own + "/online", "0");
        if (tree_.read(own + "/state") != "6")
            tree_.write(own + "/state", "5");
        run();
        now_ += BackDevice::removal_patience + BackDevice::store_retry;
        settle();
        must(device_->finished() || tree_.read(own + "/state") == "6", "a removal without an end");
        tree_.remove(own);
        settle();
        must(device_->finished(), "a removed device is not over");
        must(owner_->calls.back() == "gone", "the end was not told");
    }

  private:
    void start() {
        store_.emplace(tree_);
        owner_.emplace();
        device_.emplace(*store_, domains_, *owner_, DomainId{7}, 0U);
        started_ = device_->start().has_value();
        if (started_)
            announce();
    }
    void announce() {
        if (started_)
            (void)device_->announce(now_, "2.0");
    }

    void offer() {
        tree_.write(frontend + "/ring-ref", value(input_, {"8", "9"}));
        tree_.write(frontend + "/event-channel", value(input_, {"12", "13"}));
        tree_.write(frontend + "/feature-protocol-v2", value(input_, {"1"}));
        tree_.write(frontend + "/state", value(input_, {"3", "4"}));
    }
    void odd_node() {
        const std::array keys = {"/ring-ref", "/event-channel", "/feature-protocol-v2",
                                 "/state",    "/state/below",   ""};
        const std::string path = frontend + input_.one_of(keys);
        if (input_.flag()) {
            tree_.remove(path);
        } else {
            tree_.write(path, value(input_, {"1"}));
        }
    }
    void toolstack() {
        switch (input_.pick(4)) {
            case 0:
                return tree_.write(own + "/online", value(input_, {"0", "1"}));
            case 1:
                return tree_.write(own + "/state", value(input_, {"5", "1"}));
            case 2:
                tree_.remove(input_.flag() ? own : frontend);
                return;
            default:
                tree_.fire("@releaseDomain");
        }
    }
    void domain() {
        const auto state = static_cast<DomainState>(input_.pick(5));
        std::optional<ShutdownReason> reason;
        if (state == DomainState::shutdown || state == DomainState::dying)
            reason = static_cast<ShutdownReason>(input_.pick(6));
        domains_.set(7, state, reason);
        if (input_.rarely())
            domains_.fail_call(1 + input_.u8() % 4U);
        tree_.fire("@releaseDomain");
    }
    void refuse() {
        if (input_.flag())
            return owner_->refuse(std::nullopt);
        owner_->refuse(Error{Errc::io, static_cast<NextAction>(input_.pick(5)), "no engine"});
    }
    void write_during_a_read() {
        store_->after_read = [this, wait = input_.pick(8)](const std::string&) mutable {
            if (wait-- != 0)
                return;
            const auto once = std::exchange(store_->after_read, nullptr);
            input_.flag() ? odd_node() : offer();
        };
    }
    void vtpmd() {
        if (device_->finished() || input_.rarely())
            return;
        if (input_.flag())
            return announce();
        if (input_.rarely()) {
            (void)device_->refuse("no instance");
            return;
        }
        check();
        // A new one in its place; the old one's engine is its owner's trouble.
        device_.reset();
        start();
    }

    void run() {
        for (int round = 0; round < 400; ++round) {
            const bool done = device_->update(now_).has_value();
            const auto deadline = device_->next_deadline();
            must(done || deadline || device_->finished(), "an error without another try");
            pollfd events{store_->fd(), POLLIN, 0};
            if (device_->finished())
                return check();
            if ((!deadline || *deadline > now_) && ::poll(&events, 1, 0) == 0)
                return check();
        }
        must(false, "the device never rests");
    }
    void settle() {
        store_->fail_call(0);
        store_->after_read = nullptr;
        domains_.fail_call(0);
        for (int i = 0; i < 3; ++i) {
            now_ += BackDevice::store_retry;
            run();
        }
    }

    // What we wrote, of the forms that libxl and people may see.
    void check() const {
        for (const auto& [path, text] : store_->written()) {
            const auto at = FakeStoreTree::absolute(path);
            must(at.starts_with(own) || at.starts_with(error), "a write into another's directory");
            must(text.find('!') == std::string::npos, "the guest's bytes were written elsewhere");
            must(!at.ends_with("/state") || (text.size() == 1 && text >= "2" && text <= "6"),
                 "a state that is none");
        }
        if (const auto& ring = device_->ring())
            must(ring->domid == 7 && ring->ring_ref != 0 && ring->event_channel != 0,
                 "a ring that nobody can have offered");
    }

    Input& input_;
    FakeStoreTree tree_;
    FakeDomains domains_;
    BackDevice::Clock::time_point now_{std::chrono::hours(1)};
    std::optional<FakeStore> store_;
    std::optional<RecordingOwner> owner_;
    std::optional<BackDevice> device_;
    bool started_ = false;
};

void front_end(Input& input) {
    const std::string path = "/local/domain/7/device/vtpm/0";
    FakeStoreTree tree;
    FakeStore store(tree);
    FakeGrantShare grants;
    FakeEventPorts ports;
    tree.write(path + "/backend", input.rarely() ? input.text(100) : own);
    tree.write(path + "/backend-id", value(input, {"0"}));
    tree.write(own + "/state", "2");
    FrontDevice device(store, grants, ports, path);
    for (int turn = 0; turn < 32 && !input.empty(); ++turn) {
        tree.write(own + "/state", value(input, {"1", "2", "3", "4", "5", "6"}));
        if (input.rarely())
            tree.remove(own);
        store.fail_call(input.rarely() ? input.u8() : 0);
        grants.refuse(input.rarely());
        constexpr std::chrono::milliseconds at_once(0);
        switch (input.pick(4)) {
            case 0:
                if (device.connect(at_once))
                    must(device.offered(), "connected without a ring");
                break;
            case 1:
                (void)device.offer();
                break;
            case 2:
                if (device.close(at_once))
                    must(!device.offered(), "closed with a ring");
                break;
            default:
                (void)device.drop();
        }
    }
}

void number(Input& input) {
    const std::string text = input.text(14);
    const auto parsed = parse_store_number(text);
    const bool digits = !text.empty() && text.size() <= 10 &&
                        text.find_first_not_of("0123456789") == std::string::npos;
    must(parsed.has_value() == (digits && std::stoull(text) <= 0xffffffffULL), "another number");
    must(!parsed || *parsed == std::stoull(text), "another number");
    must(parse_xenbus_state(text).has_value() ==
             (text.size() == 1 && text[0] >= '1' && text[0] <= '6'),
         "another state");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    const std::uint8_t role = input.u8();
    if (role >= 0xf8) {
        number(input);
    } else if (role >= 0xe0) {
        front_end(input);
    } else {
        World world(input);
        for (int turn = 0; turn < 100 && !input.empty(); ++turn)
            world.act();
        world.see_off();
    }
    return 0;
}
