# troupe_add(sim SOURCES a.cpp b.cpp DEPENDS base schedule LINK fmt::fmt)
# makes the library troupe_sim of the folder it is called in.
function(troupe_add name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LINK" ${ARGN})
  add_library(troupe_${name} STATIC ${ARG_SOURCES})
  target_include_directories(troupe_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  foreach(dependency IN LISTS ARG_DEPENDS)
    target_link_libraries(troupe_${name} PUBLIC troupe_${dependency})
  endforeach()
  target_link_libraries(troupe_${name} PUBLIC ${ARG_LINK}
                        PRIVATE troupe_warnings)
endfunction()
