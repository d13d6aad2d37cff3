// Errors across a socket: Failure messages and back. A code that this version does not know reads
// as Errc::unsupported, so that a newer peer's refusal is still a refusal.
//
// A message with one text that is not UTF-8, or with a very long one, never reaches who is to read
// it. So text that may come from a damaged disk, or from elsewhere, is made printable() before it
// goes into a message.
#pragma once

#include "vtpm/base/result.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::wire {

// What is not printable ASCII becomes '?', and it is cut at 4096 bytes.
std::string printable(std::string_view text);

proto::Failure to_message(const Error& error);
Error to_error(const proto::Failure& failure);

}  // namespace vtpm::wire
