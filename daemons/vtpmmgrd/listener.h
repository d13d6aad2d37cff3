// Listener: accepts connections on the manager's socket and lets in only who may ask: root, and the
// daemon's own user (SO_PEERCRED, unix(7)).
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <string>

#include "manager.h"
#include "vtpm/base/fd.h"

namespace vtpm::manager {

class Listener {
  public:
    Listener(boost::asio::io_context& loop, Fd listening, Manager& manager);
    void start() { accept(); }

  private:
    using Socket = boost::asio::local::stream_protocol::socket;
    void accept();
    static bool may_ask(Socket& peer);

    boost::asio::local::stream_protocol::acceptor acceptor_;
    boost::asio::steady_timer pause_;
    Manager& manager_;
};

// The one that systemd handed us, if it is valid; else a new one at `path`, mode 0600.
Result<Fd> listening_socket(Fd inherited, const std::string& path);

}  // namespace vtpm::manager
