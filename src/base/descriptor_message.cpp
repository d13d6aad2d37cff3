#include "vtpm/base/descriptor_message.h"

#include <cstring>
#include <vector>

namespace vtpm {

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

// What was not asked for is there all the same, and would stay open: there is room for two, by the
// padding.
Fd DescriptorMessage::take_received() {
    const cmsghdr* rights = CMSG_FIRSTHDR(&header_);
    if (rights == nullptr || rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS)
        return Fd();
    std::vector<Fd> received;
    for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= rights->cmsg_len; at += sizeof(int)) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(rights) + (at - CMSG_LEN(0)), sizeof(int));
        received.emplace_back(fd);
    }
    return received.size() == 1 ? std::move(received.front()) : Fd();
}

}  // namespace vtpm
