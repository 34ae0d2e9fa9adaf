# troupe_unity(target <source>...): the target's sources are compiled eight at
# a time, since most of the compiler's time goes into headers and templates
# that they share. Names in unnamed namespaces of a folder therefore differ; the
# sources given here, in which they do not, are compiled by themselves.
#
# Each source still includes all that it uses: -DTROUPE_UNITY=OFF (as in the
# presets for development) compiles every source by itself.
option(TROUPE_UNITY "Compile several sources at a time" ON)

function(troupe_unity target)
  if(NOT TROUPE_UNITY)
    return()
  endif()
  set_target_properties(${target} PROPERTIES
    UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  if(ARGN)
    set_source_files_properties(${ARGN} PROPERTIES
      SKIP_UNITY_BUILD_INCLUSION ON)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # It takes the included sources for headers.
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)
  endif()
endfunction()
