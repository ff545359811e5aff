# SPDX-License-Identifier: Apache-2.0
# Checks an installed package, wherever it came from: what its files say, then this project against it, with compiler
# flags that are not those of the library. Needs -D: PACKAGE (folder of wavefix-config.cmake) WORK VERSION GENERATOR
# C_COMPILER CXX_COMPILER; FOREIGN: folders of the machine that built it.
cmake_minimum_required(VERSION 3.20)
file(REMOVE_RECURSE ${WORK})
get_filename_component(root ${PACKAGE}/../../.. ABSOLUTE)

function(step)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  message("${output}")
  if(NOT code EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "failed (${code}): ${command}")
  endif()
endfunction()

# No file that travels with the package may name a folder of the machine that built it.
file(GLOB_RECURSE texts ${root}/*.cmake ${root}/*.pc ${root}/*.hpp ${root}/*.h)
foreach(name wavefix-config.cmake wavefix-targets.cmake wavefix.pc wavefix/views.hpp wavefix/version.hpp
             wavefix/wavefix.h)
  if(NOT "${texts}" MATCHES "/${name}(;|$)")
    message(FATAL_ERROR "${name} was not installed")
  endif()
endforeach()
foreach(file IN LISTS texts)
  file(READ ${file} text)
  foreach(path IN ITEMS ${FOREIGN} "/usr/" "cmeel" "Eigen/")
    string(FIND "${text}" "${path}" position)
    if(position GREATER_EQUAL 0)
      message(FATAL_ERROR "${file} names ${path}")
    endif()
  endforeach()
endforeach()
file(GLOB_RECURSE libraries ${root}/libwavefix.*)
if(NOT libraries)
  message(FATAL_ERROR "no library was installed")
endif()
find_program(nm nm)
foreach(library IN LISTS libraries)
  foreach(path IN LISTS FOREIGN)
    file(STRINGS ${library} named REGEX "${path}")
    if(named)
      message(FATAL_ERROR "${library} names ${path}: ${named}")
    endif()
  endforeach()
  if(library MATCHES "\\.so" AND nm)  # and it shows nothing that another library could take for its own
    execute_process(COMMAND ${nm} -D --defined-only ${library} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
    list(FILTER symbols EXCLUDE REGEX " (wavefix_|_ZN?K?7wavefix|_ZT[ISV]Z?NK?7wavefix)")
    if(symbols)
      message(FATAL_ERROR "${library} shows ${symbols}")
    endif()
  endif()
endforeach()

# Another standard, no optimization, other vector registers; Eigen nowhere.
set(first -DCMAKE_BUILD_TYPE=Release)
set(second -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_STANDARD=20 "-DCMAKE_CXX_FLAGS=-O0 -march=native -D_GLIBCXX_ASSERTIONS"
    -DCMAKE_C_STANDARD=99 -DCMAKE_C_EXTENSIONS=OFF "-DCMAKE_C_FLAGS=-O0 -pedantic -Wall -Wextra -Werror")
foreach(variant first second)
  set(build ${WORK}/${variant})
  step(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${build} -G ${GENERATOR} ${${variant}}
       -DCMAKE_C_COMPILER=${C_COMPILER} -DCMAKE_CXX_COMPILER=${CXX_COMPILER} -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON
       -Dwavefix_DIR=${PACKAGE} -DWAVEFIX_EXPECTED_VERSION=${VERSION})
  step(${CMAKE_COMMAND} --build ${build} --config Release)
  find_program(consumer_${variant} consumer PATHS ${build} ${build}/Release NO_DEFAULT_PATH REQUIRED)
  find_program(consumer_c_${variant} consumer_c PATHS ${build} ${build}/Release NO_DEFAULT_PATH REQUIRED)
  step(${consumer_${variant}} ${build}/line.safetensors)
  step(${consumer_c_${variant}} ${build}/line.safetensors)
endforeach()

# A program whose containers are laid out otherwise is told so by the linker.
file(WRITE ${WORK}/containers.cpp "#include <wavefix/views.hpp>\nint main() {}\n")
foreach(mode IN ITEMS default_containers=_GLIBCXX_ASSERTIONS GLIBCXX_DEBUG=_GLIBCXX_DEBUG
                      old_strings=_GLIBCXX_USE_CXX11_ABI=0)
  string(REGEX MATCH "^([^=]+)=(.+)$" mode ${mode})
  execute_process(COMMAND ${CXX_COMPILER} -std=c++17 -O2 -D${CMAKE_MATCH_2} -I${root}/include ${WORK}/containers.cpp
                          -o ${WORK}/containers ${libraries} RESULT_VARIABLE code ERROR_VARIABLE errors)
  if(CMAKE_MATCH_1 STREQUAL "default_containers")
    if(code)
      message(FATAL_ERROR "no program links: ${errors}")
    endif()
  elseif(NOT code OR NOT errors MATCHES "built_with_${CMAKE_MATCH_1}")
    message(FATAL_ERROR "${CMAKE_MATCH_2} went unnoticed: ${errors}")
  endif()
endforeach()

# The same for those who ask pkg-config, with the C compiler alone.
find_program(pkg_config NAMES pkg-config pkgconf)
if(pkg_config)
  set(static "")
  if(NOT "${libraries}" MATCHES "\\.so")
    set(static --static)
  endif()
  execute_process(COMMAND ${CMAKE_COMMAND} -E env PKG_CONFIG_PATH=${PACKAGE}/../../pkgconfig
                          ${pkg_config} ${static} --cflags --libs wavefix
                  OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  step(${C_COMPILER} -std=c99 -pedantic -Wall -Wextra -Werror ${CMAKE_CURRENT_LIST_DIR}/main.c -o ${WORK}/by_pkg_config
       ${flags} -lm -Wl,-rpath,${PACKAGE}/../..)
  step(${WORK}/by_pkg_config ${WORK}/first/line.safetensors)
endif()
