# troupe_add(sim SOURCES a.cpp b.cpp DEPENDS base schedule LINK fmt::fmt)
# makes the library troupe_sim of the folder it is called in. APART: see
# troupe_unity.
include(TroupeUnity)
function(troupe_add name)
  cmake_parse_arguments(ARG "" "" "SOURCES;APART;DEPENDS;LINK" ${ARGN})
  add_library(troupe_${name} STATIC ${ARG_SOURCES} ${ARG_APART})
  target_include_directories(troupe_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  foreach(dependency IN LISTS ARG_DEPENDS)
    target_link_libraries(troupe_${name} PUBLIC troupe_${dependency})
  endforeach()
  target_link_libraries(troupe_${name} PUBLIC ${ARG_LINK}
                        PRIVATE troupe_warnings)
  troupe_unity(troupe_${name} ${ARG_APART})
endfunction()
