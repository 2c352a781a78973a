// Lets fake tensors be on a CUDA device where PyTorch is a build for CPUs: guards that do nothing.
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {
struct OneDevice : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};
C10_REGISTER_GUARD_IMPL(CUDA, OneDevice);
}  // namespace
