# troupe_test(sim SOURCES a_test.cpp ... LINK troupe_sim) makes one test
# program per folder and registers each of its tests with ctest. APART: see
# troupe_unity.
find_package(GTest REQUIRED)
find_package(rapidcheck QUIET)
include(GoogleTest)
function(troupe_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;APART;LINK;LABELS" ${ARGN})
  add_executable(${name}_tests ${ARG_SOURCES} ${ARG_APART})
  target_link_libraries(${name}_tests PRIVATE ${ARG_LINK} troupe_warnings
                        GTest::gmock GTest::gtest_main)
  # Tests are compiled once and run once: fast compilation wins.
  target_compile_options(${name}_tests PRIVATE -O1)
  if(TARGET rapidcheck_gtest)
    target_link_libraries(${name}_tests PRIVATE rapidcheck_gtest)
  endif()
  troupe_unity(${name}_tests ${ARG_APART})
  target_compile_definitions(${name}_tests PRIVATE
    TROUPE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  gtest_discover_tests(${name}_tests TEST_PREFIX "${name}/"
    PROPERTIES LABELS "${name};${ARG_LABELS}" TIMEOUT 300
    DISCOVERY_TIMEOUT 120)
endfunction()
