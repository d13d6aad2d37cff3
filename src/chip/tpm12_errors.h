// What a TPM 1.2 answers when it refuses, as an Error with words of our own.
#pragma once

#include <string_view>

#include "tpm12_structures.h"

namespace vtpm::chip::tpm12 {

std::string_view name_of(Ordinal ordinal);
tl::unexpected<Error> fail_code(Ordinal ordinal, Code code);

}  // namespace vtpm::chip::tpm12
