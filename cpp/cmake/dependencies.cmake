# SPDX-License-Identifier: Apache-2.0
# Eigen: the system's, or the one that the cmeel-eigen wheel puts under <prefix>/cmeel.prefix.
set(WAVEFIX_EIGEN_HINTS "")
foreach(prefix IN LISTS CMAKE_PREFIX_PATH)
  list(APPEND WAVEFIX_EIGEN_HINTS "${prefix}/cmeel.prefix")
endforeach()
find_package(Eigen3 3.4 CONFIG REQUIRED HINTS ${WAVEFIX_EIGEN_HINTS})

if(WAVEFIX_OPENMP)
  find_package(OpenMP COMPONENTS CXX)
  if(NOT OpenMP_CXX_FOUND)
    message(STATUS "wavefix: no OpenMP found, its settings and regions are not asked for")
  endif()
endif()
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
