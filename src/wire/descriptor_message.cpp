#include "descriptor_message.h"

#include <cstring>

namespace vtpm::wire {

DescriptorMessage::DescriptorMessage(MutableByteView bytes, int descriptor)
    : part_{bytes.data(), bytes.size()} {
    header_.msg_iov = &part_;
    header_.msg_iovlen = 1;
    header_.msg_control = control_.data();
    header_.msg_controllen = control_.size();
    if (descriptor < 0)
        return;
    cmsghdr* rights = CMSG_FIRSTHDR(&header_);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &descriptor, sizeof(int));
}

Fd DescriptorMessage::take_received() {
    const cmsghdr* rights = CMSG_FIRSTHDR(&header_);
    if (rights == nullptr || rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS ||
        rights->cmsg_len != CMSG_LEN(sizeof(int))) {
        return Fd();
    }
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof(int));
    return Fd(fd);
}

}  // namespace vtpm::wire
