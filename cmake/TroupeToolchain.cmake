# Compiler, warnings, sanitizers, caches.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

# -O3 buys nothing measurable here and compiles slower.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(troupe_warnings INTERFACE)
target_compile_options(troupe_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow
  $<$<CXX_COMPILER_ID:GNU>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports these inside std::string and std::variant under -O2
  # (GCC bugs 105651 and 105562).
  target_compile_options(troupe_warnings INTERFACE
    -Wno-restrict -Wno-maybe-uninitialized)
  # Up to 1 GB the compiler does not collect its garbage: less time.
  add_compile_options(
    $<$<COMPILE_LANGUAGE:CXX>:--param=ggc-min-heapsize=1000000>)
endif()

if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # Clang only builds the fuzz targets: its -Wconversion is stricter than
  # g++'s, and libstdc++ 12 itself uses what C++17 deprecated.
  target_compile_options(troupe_warnings INTERFACE
    -Wno-sign-conversion -Wno-deprecated-declarations
    -Wno-shorten-64-to-32 -Wno-implicit-int-float-conversion)
endif()

if(TROUPE_SANITIZE)
  add_compile_options(-fsanitize=${TROUPE_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TROUPE_SANITIZE})
  message(STATUS "troupe: sanitizers ${TROUPE_SANITIZE}")
endif()
