# vtpm_room(NAME [DEPS room...] [LIBS target...]): the static library of one room.
# Sources are src/NAME/*.cpp, public headers include/vtpm/NAME/*.h. CONFIGURE_DEPENDS makes a new
# file part of the build without an edit here.
function(vtpm_room name)
    cmake_parse_arguments(ROOM "" "" "DEPS;LIBS" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.cpp)
    if(NOT sources)
        add_library(vtpm_${name} INTERFACE)
        return()
    endif()
    add_library(vtpm_${name} STATIC ${sources})
    set_target_properties(vtpm_${name} PROPERTIES LINKER_LANGUAGE CXX)
    target_include_directories(vtpm_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include)
    list(TRANSFORM ROOM_DEPS PREPEND vtpm_)
    target_link_libraries(vtpm_${name} PUBLIC ${ROOM_DEPS} ${ROOM_LIBS} PRIVATE vtpm_options)
endfunction()

# vtpm_program(NAME DIR room...): a daemon or tool; its sources are daemons/DIR/*.cpp.
function(vtpm_program name dir)
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/daemons/${dir}/*.cpp)
    if(NOT sources)
        return()
    endif()
    add_executable(${name} ${sources})
    target_include_directories(${name} PRIVATE ${PROJECT_BINARY_DIR}/generated)
    list(TRANSFORM ARGN PREPEND vtpm_ REGEX "^[a-z]+$" OUTPUT_VARIABLE libs)
    target_link_libraries(${name} PRIVATE ${libs} vtpm_options)
endfunction()
