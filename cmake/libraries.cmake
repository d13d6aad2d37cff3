# What Debian 12 gives us, by the name that the rooms use.
find_package(PkgConfig REQUIRED)
find_package(OpenSSL 3.0 REQUIRED COMPONENTS Crypto)
find_package(Threads REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(spdlog REQUIRED)
find_package(tl-expected REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Protobuf REQUIRED)
find_package(nlohmann_json REQUIRED)

pkg_check_modules(seccomp REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(capng REQUIRED IMPORTED_TARGET libcap-ng)
pkg_check_modules(xen REQUIRED IMPORTED_TARGET xenstore xengnttab xenevtchn xencontrol)
pkg_check_modules(tpms REQUIRED IMPORTED_TARGET libtpms)
pkg_check_modules(tss2 REQUIRED IMPORTED_TARGET tss2-esys tss2-mu tss2-tctildr)
pkg_check_modules(sqlite REQUIRED IMPORTED_TARGET sqlite3)
pkg_check_modules(systemd REQUIRED IMPORTED_TARGET libsystemd)

# The schema of our own processes' messages. Generated code is not held to our warnings.
set(PROTO ${PROJECT_SOURCE_DIR}/src/wire)
set(PROTO_OUT ${PROJECT_BINARY_DIR}/generated/vtpm/wire)
file(MAKE_DIRECTORY ${PROTO_OUT})
foreach(name groups life swtpm messages)
    list(APPEND PROTO_FILES ${PROTO}/${name}.proto)
    list(APPEND PROTO_SOURCES ${PROTO_OUT}/${name}.pb.cc)
    list(APPEND PROTO_HEADERS ${PROTO_OUT}/${name}.pb.h)
endforeach()
add_custom_command(
    OUTPUT ${PROTO_SOURCES} ${PROTO_HEADERS}
    COMMAND protobuf::protoc --cpp_out=${PROTO_OUT} -I ${PROTO} ${PROTO_FILES}
    DEPENDS ${PROTO_FILES} VERBATIM)
add_library(vtpm_proto STATIC ${PROTO_SOURCES})
target_include_directories(vtpm_proto SYSTEM PUBLIC ${PROJECT_BINARY_DIR}/generated)
target_link_libraries(vtpm_proto PUBLIC protobuf::libprotobuf-lite)
