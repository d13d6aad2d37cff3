# vtpm_room(NAME [DEPS room...] [LIBS target...]): the static library of one room.
# Sources are src/NAME/*.cpp, public headers include/vtpm/NAME/*.h. CONFIGURE_DEPENDS makes a new
# file part of the build without an edit here.
function(vtpm_room name)
    cmake_parse_arguments(ROOM "" "" "DEPS;LIBS" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.cpp)
    add_library(vtpm_${name} STATIC ${sources})
    set_target_properties(vtpm_${name} PROPERTIES LINKER_LANGUAGE CXX)
    target_include_directories(vtpm_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include)
    list(TRANSFORM ROOM_DEPS PREPEND vtpm_)
    target_link_libraries(vtpm_${name} PUBLIC ${ROOM_DEPS} ${ROOM_LIBS} PRIVATE vtpm_options)
endfunction()

# vtpm_program(NAME room...): a daemon or tool. Its sources are daemons/NAME/*.cpp; all but main.cpp
# make the library NAME-parts, so that tests reach them.
function(vtpm_program name)
    set(directory ${PROJECT_SOURCE_DIR}/daemons/${name})
    file(GLOB sources CONFIGURE_DEPENDS ${directory}/*.cpp)
    list(REMOVE_ITEM sources ${directory}/main.cpp)
    list(TRANSFORM ARGN PREPEND vtpm_ REGEX "^[a-z]+$" OUTPUT_VARIABLE libraries)
    add_library(${name}-parts STATIC ${sources})
    target_include_directories(${name}-parts PUBLIC ${directory} ${PROJECT_BINARY_DIR}/generated)
    target_link_libraries(${name}-parts PUBLIC ${libraries} PRIVATE vtpm_options)
    add_executable(${name} ${directory}/main.cpp)
    target_link_libraries(${name} PRIVATE ${name}-parts vtpm_options)
endfunction()
