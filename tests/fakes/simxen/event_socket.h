// EventSocket: the datagram socket of one event channel handle.
#pragma once

#include <cstdint>
#include <string>

namespace simxen {

class EventSocket {
  public:
    EventSocket();  // bound to a name of its own; fd() is -1 if that failed, with errno
    ~EventSocket();
    EventSocket(const EventSocket&) = delete;
    EventSocket& operator=(const EventSocket&) = delete;

    int fd() const { return fd_; }
    const std::string& name() const { return name_; }

    // From now on only this peer, and plain write() reaches it.
    bool connect_to(const std::string& name);
    bool connected() const { return connected_; }
    // False if nobody holds that socket any more. A full queue is as good as delivered.
    bool send(const std::string& name, std::uint32_t port) const;
    void write(std::uint32_t port) const;
    std::int64_t read() const;  // a port, or -1 with errno

    static bool alive(const std::string& name);

  private:
    std::string name_;
    int fd_;
    bool connected_ = false;
};

}  // namespace simxen
