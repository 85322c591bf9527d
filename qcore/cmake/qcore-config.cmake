# find_package(qcore): the C++ headers that come with the package, and a function that makes a backend's module of them.
#   qcore::headers     what a target links that includes them: their folder, C++17, threads
#   qcore_add_module   see there
# Found in the site-packages that a build searches, or where qcore_DIR says: the folder of this file.
include(CMakeFindDependencyMacro)
find_dependency(Threads)

get_filename_component(QCORE_INCLUDE_DIR "${CMAKE_CURRENT_LIST_DIR}/../include" ABSOLUTE)
if(NOT TARGET qcore::headers)
  add_library(qcore::headers INTERFACE IMPORTED)
  set_target_properties(qcore::headers PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${QCORE_INCLUDE_DIR}"
    INTERFACE_COMPILE_FEATURES cxx_std_17
    INTERFACE_LINK_LIBRARIES Threads::Threads)
endif()

# qcore_add_module(NAME SOURCES FILE... [ISAS ISA...] [OPTIONS OPTION...] DESTINATION FOLDER)
# A Python module of C++ that is installed into FOLDER. For each instruction set there is src/kernels_ISA.cpp, compiled with the options
# in the list QCORE_FLAGS_ISA; OPTIONS are for all files. How much is optimized is the build type's: Release, if none is given.
function(qcore_add_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "DESTINATION" "SOURCES;ISAS;OPTIONS")
  if(NOT arg_SOURCES OR NOT arg_DESTINATION OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "qcore_add_module needs SOURCES and DESTINATION, and takes ISAS and OPTIONS; not ${arg_UNPARSED_ARGUMENTS}")
  endif()
  set(PYBIND11_FINDPYTHON ON)
  find_package(pybind11 CONFIG REQUIRED)
  if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release PARENT_SCOPE)
  endif()
  pybind11_add_module(${name} NO_EXTRAS ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE qcore::headers)
  # Without contraction: a * b + c must round twice wherever the numerics spec does not say fma.
  target_compile_options(${name} PRIVATE -ffp-contract=off -Wall -Wextra ${arg_OPTIONS})
  foreach(isa IN LISTS arg_ISAS)
    target_sources(${name} PRIVATE src/kernels_${isa}.cpp)
    set_source_files_properties(src/kernels_${isa}.cpp PROPERTIES COMPILE_OPTIONS "${QCORE_FLAGS_${isa}}")
  endforeach()
  install(TARGETS ${name} DESTINATION ${arg_DESTINATION})
endfunction()
