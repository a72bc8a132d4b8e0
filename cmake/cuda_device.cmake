# The library llorch_cuda_device: models on a CUDA device (src/device/cuda/) with all kernels (src/cuda/kernel/), in builds that
# have the module src/cuda. Only programs that link it open such a device.
if(TARGET llorch_cuda)
  file(GLOB cuda_kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/cuda/kernel/*.cu)
  file(GLOB cuda_device CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/device/cuda/*.cc)
  llorch_kernels(llorch_cuda_kernels ${cuda_kernels})
  add_library(llorch_cuda_device STATIC ${cuda_device} $<TARGET_OBJECTS:llorch_cuda_kernels>)
  target_link_libraries(llorch_cuda_device PUBLIC llorch_device llorch_cuda)
  llorch_precompiled(llorch_cuda_device)
  add_dependencies(cuda llorch_cuda_device)
endif()
