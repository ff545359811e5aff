# SPDX-License-Identifier: Apache-2.0
# No -ffast-math: results stay reproducible and NaN stays NaN. -fno-math-errno and
# -fno-trapping-math change no result, they only let sqrt and friends vectorize. complex
# multiplication follows the plain formula (-fcx-limited-range): inputs are checked for NaN first.
function(wavefix_compile_options target)
  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -fno-math-errno -fno-trapping-math)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      target_compile_options(${target} PRIVATE -fcx-limited-range)
    endif()
    # Templates of Eigen in a static library must not mix with those of a program that uses Eigen with other flags.
    target_compile_definitions(${target} PRIVATE Eigen=wavefix_eigen)
    if(WAVEFIX_WERROR)
      target_compile_options(${target} PRIVATE -Werror)
    endif()
    if(WAVEFIX_NATIVE)
      target_compile_options(${target} PRIVATE -march=native)
    endif()
    if(WAVEFIX_SANITIZE)
      target_compile_options(${target} PRIVATE -fsanitize=${WAVEFIX_SANITIZE}
                             -fno-sanitize-recover=all -fno-omit-frame-pointer)
      target_link_options(${target} PUBLIC -fsanitize=${WAVEFIX_SANITIZE})
    endif()
  endif()
endfunction()
