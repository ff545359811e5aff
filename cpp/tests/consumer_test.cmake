# SPDX-License-Identifier: Apache-2.0
# Installs the built library into the build tree, moves it, and builds and runs cpp/tests/consumer against it.
# Needs -D: BUILD_DIR SOURCE_DIR GENERATOR CXX_COMPILER CONFIG VERSION
set(work ${BUILD_DIR}/consumer)
file(REMOVE_RECURSE ${work})

function(step)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  message("${output}")
  if(NOT code EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "failed (${code}): ${command}")
  endif()
endfunction()

step(${CMAKE_COMMAND} --install ${BUILD_DIR} --component sdk --config ${CONFIG} --prefix ${work}/staged)
file(RENAME ${work}/staged ${work}/installed)  # an installed tree has to survive a move

# No file that travels with the package may name a folder of the machine that built it.
file(GLOB_RECURSE exported ${work}/installed/*.cmake ${work}/installed/*.pc ${work}/installed/*.hpp
     ${work}/installed/*.h)
foreach(name wavefix-config.cmake wavefix-targets.cmake wavefix.pc wavefix/views.hpp wavefix/version.hpp)
  if(NOT "${exported}" MATCHES "/${name}(;|$)")
    message(FATAL_ERROR "${name} was not installed")
  endif()
endforeach()
foreach(file IN LISTS exported)
  file(READ ${file} text)
  foreach(path IN ITEMS ${SOURCE_DIR} ${BUILD_DIR} "/usr/lib" "cmeel" "Eigen/")
    string(FIND "${text}" "${path}" position)
    if(position GREATER_EQUAL 0)
      message(FATAL_ERROR "${file} names ${path}")
    endif()
  endforeach()
endforeach()

step(${CMAKE_COMMAND} -S ${SOURCE_DIR}/cpp/tests/consumer -B ${work}/build -G ${GENERATOR}
     -DCMAKE_CXX_COMPILER=${CXX_COMPILER} -DCMAKE_BUILD_TYPE=${CONFIG}
     -DCMAKE_PREFIX_PATH=${work}/installed -DWAVEFIX_EXPECTED_VERSION=${VERSION})
step(${CMAKE_COMMAND} --build ${work}/build --config ${CONFIG})
find_program(consumer consumer PATHS ${work}/build ${work}/build/${CONFIG} NO_DEFAULT_PATH REQUIRED)
step(${consumer})
