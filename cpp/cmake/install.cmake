# SPDX-License-Identifier: Apache-2.0
include(CMakePackageConfigHelpers)
set(WAVEFIX_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/wavefix)
install(TARGETS wavefix EXPORT wavefix-targets COMPONENT sdk)
install(DIRECTORY cpp/include/ ${PROJECT_BINARY_DIR}/generated/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT sdk
        FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")
install(EXPORT wavefix-targets NAMESPACE wavefix:: DESTINATION ${WAVEFIX_CMAKE_DIR} COMPONENT sdk)
configure_package_config_file(cpp/cmake/wavefix-config.cmake.in wavefix-config.cmake
  INSTALL_DESTINATION ${WAVEFIX_CMAKE_DIR})
write_basic_package_version_file(wavefix-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/wavefix-config.cmake ${PROJECT_BINARY_DIR}/wavefix-config-version.cmake
        DESTINATION ${WAVEFIX_CMAKE_DIR} COMPONENT sdk)
