# The module src/cuda, in two builds of the same `.cu` files: by nvcc (LLORCH_CUDA), or by the host compiler against the
# emulated device (LLORCH_CUDA_EMULATED). The target `cuda` is all that these builds are for.
if(LLORCH_CUDA AND LLORCH_CUDA_EMULATED)
  message(FATAL_ERROR "LLORCH_CUDA and LLORCH_CUDA_EMULATED are two builds: choose one")
endif()

if(LLORCH_CUDA)
  find_program(LLORCH_NVCC nvcc HINTS $ENV{CUDA_PATH}/bin /usr/local/cuda/bin /opt/cuda/bin)
  if(NOT LLORCH_NVCC)
    message(FATAL_ERROR "LLORCH_CUDA=ON, and no nvcc is found (PATH, CUDA_PATH, /usr/local/cuda, /opt/cuda)")
  endif()
  set(CMAKE_CUDA_COMPILER ${LLORCH_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES ${LLORCH_CUDA_ARCHITECTURES})
  # tools/cuda/budget keeps what ptxas reports.
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_SOURCE_DIR}/tools/cuda/budget compile ${CMAKE_CXX_COMPILER_LAUNCHER})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 does not know that nvcc has it
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13)
    message(FATAL_ERROR "nvcc ${CMAKE_CUDA_COMPILER_VERSION} is too old: 13 or later")
  endif()
  find_package(CUDAToolkit REQUIRED)
  if(LLORCH_CUDA_KEEP_PTX)  # as text in the objects: tools/cuda/budget reads it
    set(LLORCH_CUDA_READABLE "-no-compress ")
  endif()
  set(CMAKE_CUDA_FLAGS "${LLORCH_CUDA_READABLE}-fmad=false -Werror all-warnings -Xptxas=-v -Xcompiler=-Wall,-fvisibility=hidden -Xcompiler=-ffile-prefix-map=${CMAKE_SOURCE_DIR}=.")
endif()

# llorch_kernels(target files...): `.cu` files of a target that is linked with llorch_cuda.
function(llorch_kernels target)
  add_library(${target} OBJECT ${ARGN})
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_BINARY_DIR}/generated)
  set_target_properties(${target} PROPERTIES CXX_STANDARD 20 CUDA_STANDARD 20 POSITION_INDEPENDENT_CODE ON UNITY_BUILD OFF)
  if(LLORCH_CUDA_EMULATED)
    target_compile_definitions(${target} PRIVATE LLORCH_CUDA_EMULATED)
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX)
    target_compile_options(${target} PRIVATE -x c++ -Werror -Wno-unknown-pragmas)  # #pragma unroll
  endif()
endfunction()

# llorch_product_units(variable): one unit for each block format of kernel/dot/, with its products.
function(llorch_product_units out)
  file(GLOB formats CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernel/dot/*.h)
  set(units "")
  foreach(format IN LISTS formats)
    get_filename_component(stem ${format} NAME_WE)
    string(TOUPPER ${stem} FORMAT)
    set(unit ${CMAKE_BINARY_DIR}/generated/products/${stem}.cu)
    file(CONFIGURE OUTPUT ${unit} CONTENT "#include \"cuda/kernel/block_weights.h\"
namespace llorch::cuda {
template<>
void multiply_type<kernel::kPanel${FORMAT}.type>(StreamHandle stream, const ProductArgs& args) {
  multiply_as<BlockWeights<kernel::kPanel${FORMAT}.type>>(stream, args);
}
}  // namespace llorch::cuda
" @ONLY)
    list(APPEND units ${unit})
  endforeach()
  set(${out} ${units} PARENT_SCOPE)
endfunction()
