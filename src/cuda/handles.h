// Handles of streams, events and graphs: the CUDA runtime's, or the emulated device's.
#pragma once

#ifdef LLORCH_CUDA_EMULATED
namespace llorch::cuda {
namespace host {
class StreamQueue;
class EventMark;
class GraphNodes;
}  // namespace host
using StreamHandle = host::StreamQueue*;
using EventHandle = host::EventMark*;
using GraphHandle = host::GraphNodes*;
}  // namespace llorch::cuda
#else
struct CUstream_st;
struct CUevent_st;
struct CUgraphExec_st;
namespace llorch::cuda {
using StreamHandle = CUstream_st*;
using EventHandle = CUevent_st*;
using GraphHandle = CUgraphExec_st*;
}  // namespace llorch::cuda
#endif
