// Every limit of the program, with its reason. What a file or a client declares is compared with these before it is
// believed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace llorch::limits {

// Model files. Real files have a few hundred tensors; gpt-oss-120b has about 500, large mixtures below 2000.
inline constexpr std::uint64_t kTensorsMax = 10'000;
inline constexpr std::uint64_t kMetadataKeysMax = 65'536;
inline constexpr std::uint64_t kNameBytesMax = 1024;         // longest tensor or key name; the format itself advises 64
inline constexpr std::uint64_t kStringBytesMax = 16u << 20;  // chat templates and licences are long, tokens are not
inline constexpr std::uint64_t kArrayItemsMax = 16u << 20;   // vocabularies and merges stay below one million
inline constexpr int kTensorDimsMax = 4;
inline constexpr std::uint64_t kAlignmentMax = 1u << 20;
inline constexpr std::uint64_t kSplitFilesMax = 1024;
inline constexpr std::uint64_t kJsonBytesMax = 256u << 20;  // a tokenizer.json of 200k entries is about 30 MB
inline constexpr std::uint64_t kSafetensorsHeaderBytesMax = 100u << 20;  // the format's own cap

// Hyper-parameters: bounds that keep every product of them inside 64 bits and every buffer within reason.
inline constexpr std::uint64_t kVocabMax = 1u << 21;
inline constexpr std::uint64_t kLabelsMax = 1024;  // of a classification head
inline constexpr std::uint64_t kLayersMax = 1024;
inline constexpr std::uint64_t kEmbeddingMax = 1u << 18;
inline constexpr std::uint64_t kHeadsMax = 4096;
inline constexpr std::uint64_t kHeadDimMax = 1024;
inline constexpr std::uint64_t kFeedForwardMax = 1u << 20;
inline constexpr std::uint64_t kExpertsMax = 1024;
inline constexpr std::uint64_t kRecurrentDimMax = 512;  // keys and values of recurrent heads: kernels' room
inline constexpr std::uint64_t kTapsMax = 32;           // of a causal convolution
inline constexpr std::uint64_t kContextMax = 1u << 24;

// Adapters: ranks in use are 4 to 256; each adapter of a worker lies in memory.
inline constexpr std::uint64_t kAdapterRankMax = 4096;
inline constexpr std::size_t kAdaptersMax = 64;

// KV cache: positions in one page. Attention merges pages in order, so this number is part of the bits of a result.
inline constexpr int kKvPagePositions = 64;
inline constexpr int kPageGroupsMax = 4;  // layers of so many different windows
inline constexpr int kDraftsMax = 16;     // rows of one step that may be taken back

// Text.
inline constexpr std::size_t kTextBytesMax = 64u << 20;  // one encode call
inline constexpr std::size_t kStopStringsMax = 16;       // OpenAI takes 4, and clients send more to others
inline constexpr int kChoicesMax = 32;                   // of one prompt
inline constexpr std::size_t kStopBytesMax = 100;

// Work over text, in units of base/work_limit.h (some nanoseconds each), where a caller gives no limit of its own.
inline constexpr std::uint64_t kRenderUnitsMax = 500'000'000;     // seconds; a conversation of 8 MB takes a tenth
inline constexpr std::uint64_t kEncodeUnitsMax = 16'000'000'000;  // kTextBytesMax bytes take a quarter of it

// HTTP. Connections that have shown no right key are strangers: they keep no more than a part of all places, from one
// address and together, so that whoever has a key always finds one. Bodies: what requests hold that are not answered
// yet, twice the largest body for each of sixteen.
inline constexpr int kConnectionsMax = 4096, kConnectionsPerPeerMax = 3072;
inline constexpr int kStrangersMax = 1024, kStrangersPerPeerMax = 256;
inline constexpr std::size_t kBodiesBytesMax = 256u << 20;
inline constexpr std::size_t kSmallBodyBytesMax = 64u << 10;  // of routes that take a few fields
inline constexpr std::size_t kLingerBytesMax = 64u << 20;     // thrown away after a refusal, so that it is read

// Threads: beyond this a machine does not exist that we run on.
inline constexpr int kThreadsMax = 1024;

static_assert(kStrangersPerPeerMax < kStrangersMax && kStrangersMax < kConnectionsMax &&
                  kConnectionsPerPeerMax < kConnectionsMax,
              "nobody may take all places");
static_assert(kVocabMax * kEmbeddingMax * 4 < (std::uint64_t{1} << 62), "a weight's bytes must fit in 64 bits");
static_assert((kKvPagePositions & (kKvPagePositions - 1)) == 0, "page arithmetic uses shifts");

}  // namespace llorch::limits
