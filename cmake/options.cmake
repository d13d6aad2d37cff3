# Flags of every target: one interface target for warnings and hardening, one for sanitizers.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# The presets set CMAKE_UNITY_BUILD, all but `release`: to build them anew takes half the time. A name in
# an anonymous namespace of a room or a program is therefore there once. What is shipped is built file by
# file: a program that needs one file of a room must not link what the others need.
find_program(CCACHE ccache)
if(CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(vtpm_options INTERFACE)
target_compile_options(vtpm_options INTERFACE
    -Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast
    -Wnon-virtual-dtor -Woverloaded-virtual -Wimplicit-fallthrough -Wformat=2
    -fstack-protector-strong -fstack-clash-protection -fcf-protection)
# gcc's warnings are the ones we go by; clang, which builds the fuzzers, has some of its own.
target_compile_options(vtpm_options INTERFACE $<$<CXX_COMPILER_ID:Clang>:-Wno-error> $<$<CXX_COMPILER_ID:Clang>:-Wno-shadow>)
# A definition by the packaging's own flags wins; Debug has no optimisation for it to work with.
target_compile_options(vtpm_options INTERFACE
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
# --as-needed is what makes the link rules (tests/lint/links.py) say something about the code:
# a program's NEEDED list holds a library only if an object file of it calls that library.
target_link_options(vtpm_options INTERFACE -Wl,--as-needed -Wl,-z,relro,-z,now -Wl,-z,noexecstack)

if(VTPM_SANITIZE)
    # Reports need lines and no more: an eighth of the time to build.
    string(APPEND CMAKE_CXX_FLAGS_DEBUG " -g1")
    target_compile_options(vtpm_options INTERFACE -fsanitize=${VTPM_SANITIZE}
                           -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(vtpm_options INTERFACE -fsanitize=${VTPM_SANITIZE})
    if(VTPM_SANITIZE STREQUAL thread)
        # A warning that the sanitizer does not see fences (Asio's, SharedPage's); an error with -Werror.
        target_compile_options(vtpm_options INTERFACE -Wno-tsan)
    endif()
endif()
