// LifeRecord: the name that this domain's life was given, in a file in /run.
//
// Every domain is created with the same incarnation, so a save file could not be told from one of
// another life of the same guest. So each life gets a random incarnation before it begins; Xen
// carries it into the save file and counts on from there. One name a domain, however many TPMs it
// has.
#pragma once

#include <optional>
#include <string>

#include "vtpm/base/result.h"
#include "vtpm/xen/domain_id.h"

namespace vtpm::doorman {

class LifeRecord {
  public:
    LifeRecord(const std::string& directory, xen::DomainId domain)
        : path_(directory + "/life-" + std::to_string(domain)) {}

    std::optional<std::uint32_t> name() const;
    // The one there is, or a new one.
    Result<std::uint32_t> make() const;
    void remove() const;

  private:
    std::string path_;
};

}  // namespace vtpm::doorman
