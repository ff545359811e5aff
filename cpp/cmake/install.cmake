# SPDX-License-Identifier: Apache-2.0
# The C++ package: headers, library, find_package() files, pkg-config file. `cmake --install <build> --component sdk`.
include(CMakePackageConfigHelpers)
set(WAVEFIX_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/wavefix)

# What a consumer has to know about this build. A static library carries no link information of its own.
set(WAVEFIX_NEEDS_THREADS OFF)
set(WAVEFIX_NEEDS_OPENMP OFF)
set(WAVEFIX_IS_SHARED OFF)
if(BUILD_SHARED_LIBS)
  set(WAVEFIX_IS_SHARED ON)
endif()
set(WAVEFIX_PC_PRIVATE_LIBS "")
if(NOT BUILD_SHARED_LIBS)
  set(WAVEFIX_NEEDS_THREADS ON)
  string(APPEND WAVEFIX_PC_PRIVATE_LIBS "-pthread ")
endif()
if(WAVEFIX_OPENMP AND OpenMP_CXX_FOUND AND NOT BUILD_SHARED_LIBS)
  set(WAVEFIX_NEEDS_OPENMP ON)
  string(REGEX REPLACE "=[^ ]*" "" WAVEFIX_OPENMP_FLAG "${OpenMP_CXX_FLAGS}")  # any compiler's runtime will do
  string(APPEND WAVEFIX_PC_PRIVATE_LIBS ${WAVEFIX_OPENMP_FLAG})
endif()

# What a linker is to ask for: a wheel holds no libwavefix.so beside the library.
set(WAVEFIX_PC_LIBRARY -lwavefix)
set(WAVEFIX_NAMELINK "")
if(SKBUILD AND BUILD_SHARED_LIBS AND NOT APPLE AND NOT WIN32)
  set(WAVEFIX_PC_LIBRARY -l:libwavefix.so.${WAVEFIX_SOVERSION})
  set(WAVEFIX_NAMELINK NAMELINK_SKIP)
endif()

install(TARGETS wavefix EXPORT wavefix-targets COMPONENT sdk
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT sdk
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT sdk ${WAVEFIX_NAMELINK}
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT sdk)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/cpp/include/ ${PROJECT_BINARY_DIR}/generated/
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT sdk
        FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")
install(EXPORT wavefix-targets NAMESPACE wavefix:: DESTINATION ${WAVEFIX_CMAKE_DIR} COMPONENT sdk)

configure_package_config_file(${PROJECT_SOURCE_DIR}/cpp/cmake/wavefix-config.cmake.in
  ${PROJECT_BINARY_DIR}/wavefix-config.cmake INSTALL_DESTINATION ${WAVEFIX_CMAKE_DIR}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/wavefix-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/wavefix-config.cmake ${PROJECT_BINARY_DIR}/wavefix-config-version.cmake
        DESTINATION ${WAVEFIX_CMAKE_DIR} COMPONENT sdk)

# The prefix is spelled relative to the file, so that an installed tree can be moved.
file(RELATIVE_PATH WAVEFIX_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" WAVEFIX_PC_PREFIX "${WAVEFIX_PC_PREFIX}")
configure_file(${PROJECT_SOURCE_DIR}/cpp/cmake/wavefix.pc.in ${PROJECT_BINARY_DIR}/wavefix.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/wavefix.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT sdk)
