# SPDX-License-Identifier: Apache-2.0
# Installs the built library into the build tree, moves it, and checks the moved tree.
# Needs -D: BUILD_DIR SOURCE_DIR GENERATOR C_COMPILER CXX_COMPILER CONFIG VERSION
set(work ${BUILD_DIR}/consumer)
file(REMOVE_RECURSE ${work})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD_DIR} --component sdk --config ${CONFIG}
                        --prefix ${work}/staged COMMAND_ERROR_IS_FATAL ANY)
file(MAKE_DIRECTORY ${work}/moved)
file(RENAME ${work}/staged ${work}/moved/tree)  # an installed tree has to survive a move
file(GLOB_RECURSE config ${work}/moved/tree/wavefix-config.cmake)
get_filename_component(PACKAGE "${config}" DIRECTORY)
set(WORK ${work}/build)
set(FOREIGN ${SOURCE_DIR}/cpp ${BUILD_DIR}/generated ${work}/staged)
include(${SOURCE_DIR}/cpp/tests/consumer/check.cmake)
