// SocketTpm: the TPM of a guest whose peer speaks swtpm's protocol: which engine has it, and
// whether it has power.
//
//   off --init--> on --stop--> off           each init is a power cycle and has an engine of its
//   own on --park--> parked                      its state lies in the vault and the instance is
//   free parked --unpark--> on                    if nobody else has gone on with it since on --the
//   engine dies--> failed --init--> on
//
// There is always an engine but while it is parked and nobody wants it: one without power answers
// commands as such. Results are TPM_RESULTs. One thread.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine_log.h"
#include "instance_lookup.h"
#include "manager_client.h"
#include "seat_number.h"
#include "socket_engine.h"
#include "state_ticket.h"
#include "vtpm/base/rate_bound.h"

namespace vtpm::swtpm {

class SocketTpm {
  public:
    using Clock = std::chrono::steady_clock;

    SocketTpm(FoundInstance instance, doorman::ManagerClient& manager, SeatNumber seat,
              std::string engine_program);

    // Starts an engine without power. The instance is taken hold of when it is to get some.
    Result<void> begin() { return go_dark(); }

    // `gives_startup`: nobody else sends the TPM its Startup(CLEAR).
    std::uint32_t init(bool gives_startup = false);
    // After init() or unpark(): the state to go on with is not there, and never will be.
    bool label_was_refused() const { return label_refused_; }
    std::uint32_t stop();
    // Power goes, and the instance is given back. A TPM that is to be kept is put by; so is one
    // that was taken over and not used. False: that could not be done.
    bool finish();
    // The machine is gone, control and data channel, and has not said goodbye: the TPM loses its
    // power, unless it was taken over and not used.
    Result<void> abandon();
    // What was set for an init that never came.
    void forget_ticket() { resume_.reset(); }

    // The data channel; the one before is closed.
    std::uint32_t set_data(Fd socket);
    bool has_data();

    std::uint32_t set_locality(std::uint8_t locality);
    std::uint32_t cancel();
    std::uint32_t hash(wire::proto::HashSequence::Step step, ByteView data);
    std::uint32_t established(bool& value);
    std::uint32_t reset_established(std::uint8_t locality);
    std::uint32_t info(std::uint32_t flags, std::string& json);

    struct BufferSize {
        std::uint32_t current;
        std::uint32_t least;
        std::uint32_t most;
    };
    BufferSize buffer_size() const;
    std::uint32_t set_buffer_size(std::uint32_t wanted);  // as far as it can be

    std::string uuid() const { return instance_.uuid.to_string(); }
    bool is_on() const { return power_ == Power::on; }
    bool is_parked() const { return power_ == Power::parked; }

    // Puts the running TPM by, for whoever has the ticket. The instance is free afterwards.
    std::uint32_t park();
    // Goes on with it after all, waiting so long for the instance.
    std::uint32_t unpark(std::chrono::milliseconds patience);
    StateTicket ticket(BlobType type) const;
    // For the next init; only while there is no power.
    std::uint32_t take_ticket(const StateTicket& ticket);
    // The TPM is to be put by, not switched off, when this process ends. Its ticket.
    StateTicket keep_volatile();
    // An INIT means that such a TPM goes on, with another engine; and so does the next one, if that
    // could not be done.
    bool keeps_volatile() const {
        return is_on() ? keep_as_.has_value() : is_parked() && begins_again_;
    }
    std::uint32_t begin_where_it_is();

    int engine_fd() const { return engine_ ? engine_->fd() : -1; }
    void on_engine();
    int manager_fd() const { return manager_.fd(); }
    void on_manager();
    // While it is parked: a command that comes means that it is to go on. Its end does not.
    int parked_data_fd() const { return is_parked() && !engine_ ? data_.get() : -1; }
    void on_parked_data(std::chrono::milliseconds patience);
    int log_fd(Clock::time_point now) const { return log_.fd(now); }
    void on_log(Clock::time_point now) { log_.read(now); }
    std::optional<Clock::time_point> next_deadline() const { return retry_at_; }
    void tick(Clock::time_point now);

  private:
    enum class Power { off, on, parked, failed };
    // As often as anybody needs the instance; each time costs the manager a line in its journal.
    static constexpr unsigned holds_at_once = 10;
    static constexpr std::chrono::seconds hold_interval{1};
    // For another holder of the instance: at a migration the source, which has just let go of it.
    static constexpr std::chrono::milliseconds init_patience{5000};
    static constexpr int max_taken_by_other = 20;

    Result<void> fresh_engine();
    Result<void> give_data();
    Result<void> go_dark();  // an engine without power, which answers as such
    Result<void> hold(std::chrono::milliseconds patience);
    Result<void> power_on(std::optional<std::uint64_t> label, std::chrono::milliseconds patience,
                          bool gives_startup = false);
    Result<bool> put_by(std::uint64_t label, bool if_unused);
    void give_up_hold();
    void drop_engine();
    void look_after_manager();
    void engine_died(const std::string& why);
    std::uint32_t ask(const wire::proto::Order& order, ByteView payload = {},
                      SocketEngine::Answer* answer = nullptr);
    std::uint32_t failed(const char* what, const Error& error);
    std::string who() const;

    FoundInstance instance_;
    doorman::ManagerClient& manager_;
    SeatNumber seat_;
    std::string engine_program_;
    doorman::EngineLog log_;
    std::unique_ptr<SocketEngine> engine_;
    Power power_ = Power::off;
    Fd data_;
    std::uint8_t locality_ = 0;
    std::uint32_t buffer_size_ = 4096;
    std::uint64_t parked_as_ = 0;
    std::optional<std::uint64_t> resume_;      // the label to go on with at the next init
    std::optional<std::uint64_t> resumed_as_;  // what this power cycle has gone on with
    std::optional<std::uint64_t> keep_as_;
    bool had_power_ = false;     // in this process
    bool begins_again_ = false;  // parked by begin_where_it_is()
    bool label_refused_ = false;
    RateBound holds_{holds_at_once, hold_interval};
    int taken_by_other_ = 0;    // times in a row that we found our instance in another's hands
    bool order_waits_ = false;  // an engine's; see look_after_manager()
    std::optional<Clock::time_point> retry_at_;  // the manager is away, or did not let us unpark
};

}  // namespace vtpm::swtpm
