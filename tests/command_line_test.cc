// The programs as people and programs run them: real processes, real files, exit codes, streams.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "format/json.h"
#include "process.h"
#include "test_data.h"

namespace llorch {
namespace {

const std::string kWorker = LLORCH_BIN_DIR "/llorch-worker-cpu", kGguf = LLORCH_BIN_DIR "/llorch-gguf";

json::object parsed(const std::string& text) {
  const auto v = json::parse(text, "output");
  EXPECT_TRUE(v && v->is_object()) << text;
  return v && v->is_object() ? v->get_object() : json::object{};
}

TEST(Generate, writes_a_haiku_from_the_built_in_model) {
  const auto r = run_process(
      {kWorker, "generate", "-m", "builtin:haiku", "-p", "<|user|>Write a haiku about the sea<|assistant|>"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(std::ranges::count(r.out, '\n'), 3) << r.out;
  EXPECT_NE(r.err.find("tok/s"), std::string::npos);
  EXPECT_NE(r.err.find("EOS"), std::string::npos);
}

/// English that is not noise: a third of its words are among the commonest.
double share_of_common_words(const std::string& text) {
  static const std::set<std::string> kCommon{
      "the",    "a",     "to",   "was",   "and", "she", "he",     "it",   "her",   "his", "in",   "of", "said",
      "with",   "they",  "but",  "you",   "on",  "is",  "for",    "had",  "that",  "day", "very", "so", "were",
      "wanted", "loved", "play", "there", "i",   "not", "little", "girl", "named", "one", "saw"};
  std::istringstream words(text);
  int all = 0, common = 0;
  for (std::string w; words >> w; ++all) {
    std::erase_if(w, [](unsigned char c) { return !std::isalpha(c); });
    for (char& c : w) c = static_cast<char>(std::tolower(c));
    common += kCommon.contains(w);
  }
  return all ? static_cast<double>(common) / all : 0;
}

TEST(Generate, tells_an_english_story_from_a_real_trained_model_the_same_on_every_isa) {
  LLORCH_NEED_TEST_DATA(model, "models/stories260k-f32.gguf");
  std::set<std::string> stories;
  for (const char* isa : {"", "scalar", "reference"}) {
    std::vector<std::string> arguments{kWorker, "generate", "-m", model, "-p", "Once upon a time", "-n", "60"};
    if (*isa) arguments.insert(arguments.end(), {"--isa", isa});
    const auto r = run_process(arguments);
    ASSERT_EQ(r.exit_code, 0) << r.err;
    EXPECT_GT(share_of_common_words(r.out), 0.33) << r.out;
    stories.insert(r.out);
  }
  EXPECT_EQ(stories.size(), 1u) << "greedy decoding of an F32 model differs between ISAs";
  EXPECT_LT(share_of_common_words("qx zvv tho wasn fgh ander hee itt erh siht"), 0.1)
      << "the measure itself accepts noise";
}

TEST(Generate, same_seed_same_tokens_other_seed_others) {
  const auto text = [](const char* seed) {
    return run_process({kWorker, "generate", "-m", "builtin:haiku", "-p", "<|user|>haiku about rain<|assistant|>",
                        "--temperature", "1", "--seed", seed})
        .out;
  };
  EXPECT_EQ(text("42"), text("42"));
  EXPECT_NE(text("42"), text("43"));
}

TEST(Generate, json_holds_the_whole_answer) {
  const auto r = run_process({kWorker, "generate", "-m", "builtin:haiku", "-p", "<|user|>haiku about rain<|assistant|>",
                              "--seed", "18446744073709551615", "--json", "--stop", "\n"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const json::object o = parsed(r.out);
  EXPECT_EQ(json::find_text(o, "stop_reason"), "STOP_SEQUENCE");
  EXPECT_EQ(json::find_unsigned(o, "seed"), 18446744073709551615u);
  EXPECT_EQ(json::find_text(o, "text")->find('\n'), std::string::npos);
  EXPECT_EQ(json::find_array(o, "tokens")->size(), json::find_unsigned(o, "tokens_out"));
}

TEST(Generate, text_streams_token_by_token_and_ctrl_c_ends_it_with_130) {
  bool sent = false;
  const auto r = run_process({kWorker, "generate", "-m", "builtin:haiku", "-p", "<|user|>haiku<|assistant|>", "-n",
                              "200", "--ignore-eos", "--isa", "reference", "--threads", "1"},
                             [&](const ProcessResult& so_far, pid_t pid) {
                               if (!sent && !so_far.out.empty()) kill(pid, SIGINT), sent = true;
                             });
  EXPECT_TRUE(sent);
  EXPECT_EQ(r.exit_code, 130) << r.err;
}

TEST(Errors, say_what_and_where_and_have_their_exit_codes) {
  struct Case {
    std::vector<std::string> arguments;
    int exit_code;
    const char* text;
  };
  ScratchDirectory d;
  std::ofstream(d / "junk.gguf") << "GGUX this is no model";
  const Case cases[] = {
      {{kWorker}, 2, "subcommand"},
      {{kWorker, "generate"}, 2, "--model"},
      {{kWorker, "generate", "-m", "x", "--temperature", "3"}, 2, "--temperature"},
      {{kWorker, "generate", "-m", "x", "--no-such-flag"}, 2, "no-such-flag"},
      {{kWorker, "generate", "-m", "/nonexistent.gguf", "-p", "x"}, 1, "/nonexistent.gguf"},
      {{kWorker, "generate", "-m", d / "junk.gguf", "-p", "x"}, 1, "not a GGUF file"},
      {{kWorker, "generate", "-m", d.path(), "-p", "x"}, 1, "config.json"},
      {{kWorker, "generate", "-m", "builtin:sonnet", "-p", "x"}, 1, "builtin:haiku"},
      {{kWorker, "generate", "-m", "builtin:haiku", "-p", ""}, 2, "prompt is empty"},
      {{kWorker, "generate", "-m", "builtin:haiku", "-p", "x", "--isa", "mmx"}, 1, "'mmx'"},
      {{kWorker, "generate", "-m", "builtin:haiku", "-p", "x", "--ctx", "257"}, 1, "context"},
      {{kWorker, "generate", "-m", "builtin:haiku", "-p", "\xff"}, 2, "UTF-8"},
      {{kWorker, "logits", "-m", "builtin:haiku", "--tokens", "99999", "--out", d / "l.npy"}, 2, "99999"},
      {{kWorker, "tokenize", "-m", "builtin:haiku"}, 2, "--text"},
      {{kWorker, "detokenize", "-m", "builtin:haiku", "--ids", "-1"}, 2, "-1"},
      {{kWorker, "grammar", "--regex", "(?=a)"}, 3, "regex at 'byte 3'"},
      {{kGguf, "synth", "--shape", "gpt-9", d / "x.gguf"}, 2, "gpt-9"},
      {{kGguf, "synth", "--shape", "tiny-llama", "--arch", "gpt2", d / "x.gguf"}, 2, "'llama'"},
      {{kGguf, "synth", "--shape", "tiny-llama", "--type", "Q9", d / "x.gguf"}, 2, "Q9"},
      {{kGguf, "inspect", "/nonexistent"}, 1, "/nonexistent"},
  };
  for (const Case& c : cases) {
    const auto r = run_process(c.arguments);
    EXPECT_EQ(r.exit_code, c.exit_code) << r.err;
    EXPECT_NE(r.err.find(c.text), std::string::npos) << r.err;
    EXPECT_TRUE(r.out.empty()) << r.out;
  }
  const auto r = run_process({kWorker, "generate", "-m", "/nonexistent.gguf", "-p", "x", "--json"});
  const json::object error = *json::find_object(parsed(r.err), "error");
  EXPECT_EQ(json::find_text(error, "code"), "IO");
  EXPECT_FALSE(std::filesystem::exists(d / "x.gguf")) << "a failed command left a file";
}

TEST(Tokenize, and_detokenize_are_inverse) {
  const auto ids = run_process({kWorker, "tokenize", "-m", "builtin:haiku", "--text", "Hello wörld 世界"});
  ASSERT_EQ(ids.exit_code, 0) << ids.err;
  std::string list = ids.out;
  EXPECT_EQ(std::ranges::count(list, '\n'), 1);
  std::ranges::replace(list, ' ', ',');
  list.pop_back();
  EXPECT_EQ(run_process({kWorker, "detokenize", "-m", "builtin:haiku", "--ids", list}).out, "Hello wörld 世界\n");
  const json::object o = parsed(
      run_process({kWorker, "tokenize", "-m", "builtin:haiku", "--text", "<|user|>", "--parse-special", "--json"}).out);
  EXPECT_EQ(json::find_unsigned(o, "count"), 1u);
  LLORCH_NEED_TEST_DATA(spm, "vocab/llama-spm.gguf");
  EXPECT_TRUE(run_process({kWorker, "tokenize", "-m", spm, "--text", "Hello", "--add-bos"}).out.starts_with("1 "));
}

TEST(Logits, are_a_npy_array_with_checkpoints_the_same_for_every_chunk) {
  ScratchDirectory d;
  ASSERT_EQ(run_process({kGguf, "synth", "--shape", "tiny-qwen3", "--type", "Q4_K", d / "m.gguf"}).exit_code, 0);
  const auto logits = [&](const std::string& chunk) {
    const auto r = run_process({kWorker, "logits", "-m", d / "m.gguf", "--tokens", "1,2,3,4,5", "--out", d / "l.npy",
                                "--checkpoints", d / "cp", "--prefill-chunk", chunk});
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return read_text_file(d / "l.npy", 1u << 24).value();
  };
  const std::string all = logits("512");
  EXPECT_EQ(all, logits("1"));
  EXPECT_TRUE(all.starts_with("\x93NUMPY"));
  EXPECT_NE(all.find("'shape': (5, 320,)"), std::string::npos);
  EXPECT_EQ(all.size() % 64, (5 * 320 * 4) % 64u) << "data starts at a multiple of 64";
  for (const char* name : {"embedding", "layer_00.q", "layer_01.output", "final_norm", "logits"})
    EXPECT_TRUE(std::filesystem::exists(d / "cp/" + name + ".npy")) << name;
}

TEST(Logits, validate_dumps_every_checkpoint_as_bin) {
  ScratchDirectory d;
  ASSERT_EQ(run_process({kGguf, "synth", "--shape", "tiny-gpt2", d / "m.gguf"}).exit_code, 0);
  const auto r = run_process({"/usr/bin/env", "VALIDATE=1", "LLORCH_CHECKPOINT_DIR=" + d / "dumps", kWorker, "logits",
                              "-m", d / "m.gguf", "--tokens", "1,2,3", "--out", d / "l.npy"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const std::string bin = read_text_file(d / "dumps/logits.bin", 1u << 24).value(),
                    npy = read_text_file(d / "l.npy", 1u << 24).value();
  std::int32_t n_dims = 0;
  std::int64_t shape[2] = {};
  ASSERT_GT(bin.size(), 20u);
  std::memcpy(&n_dims, bin.data(), 4);
  std::memcpy(shape, bin.data() + 4, 16);
  EXPECT_EQ(n_dims, 2);
  EXPECT_EQ(shape[0], 3);
  EXPECT_EQ(shape[1], 320);
  EXPECT_EQ(bin.substr(20), npy.substr(npy.size() - 3 * 320 * 4));
}

TEST(Perplexity, knows_a_story_from_its_shuffled_words) {
  LLORCH_NEED_TEST_DATA(model, "models/stories260k-f32.gguf");
  ScratchDirectory d;
  const std::string story =
      "One day, a little boy named Tom went to the park with his mom. He saw a big dog and wanted to play with it. The "
      "dog was very happy. "
      "Tom and the dog ran and played all day. Then his mom said it was time to go home. Tom was sad, but he said "
      "goodbye to the dog.";
  std::istringstream in(story);
  std::vector<std::string> words;
  for (std::string w; in >> w;) words.push_back(w);
  std::ofstream(d / "story.txt") << story;
  std::ofstream shuffled(d / "shuffled.txt");
  for (std::size_t i = 0; i < words.size(); ++i) shuffled << words[i * 29 % words.size()] << ' ';
  shuffled.close();
  const auto perplexity = [&](const std::string& file, const std::string& isa) {
    const auto r = run_process({kWorker, "perplexity", "-m", model, "--file", d / file, "--json", "--isa", isa});
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return *json::find_number(parsed(r.out), "perplexity");
  };
  const double real = perplexity("story.txt", "scalar");
  EXPECT_LT(real, 8);
  EXPECT_GT(perplexity("shuffled.txt", "scalar"), 5 * real);
  EXPECT_NEAR(perplexity("story.txt", "reference"), real, 0.01 * real);
}

TEST(GgufTool, quantizes_and_the_result_still_writes_haikus) {
  ScratchDirectory d;
  LLORCH_NEED_TEST_DATA(model, "models/stories260k-f32.gguf");
  ASSERT_EQ(run_process({kGguf, "quantize", model, d / "f16.gguf", "F16"}).exit_code, 0);
  const json::object o = parsed(run_process({kGguf, "inspect", d / "f16.gguf", "--json"}).out);
  std::set<std::string> types;
  for (const auto& t : *json::find_array(o, "tensors")) types.insert(*json::find_text(t.get_object(), "type"));
  EXPECT_EQ(types, (std::set<std::string>{"F16", "F32"}));
  const auto r = run_process({kWorker, "generate", "-m", d / "f16.gguf", "-p", "Once upon a time", "-n", "30"});
  EXPECT_GT(share_of_common_words(r.out), 0.3) << r.out;
}

TEST(Bench, reports_every_test_with_its_share_of_the_machine) {
  if (kSanitized) GTEST_SKIP() << "not run under sanitizers: what it measures would be theirs";
  const auto r = run_process({kWorker, "bench", "-m", "builtin:haiku", "-p", "32", "-n", "4", "-d", "0,40", "-b", "1,3",
                              "-t", "1", "-r", "2", "--profile", "--json"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const json::object o = parsed(r.out);
  EXPECT_EQ(json::find_text(o, "weights"), "Q8_0");
  EXPECT_GT(*json::find_number(o, "load_s"), 0);
  EXPECT_GT(*json::find_number(o, "peak_rss_bytes"), *json::find_number(o, "file_bytes"));
  const json::object& roof = *json::find_object(o, "roofline");
  for (const char* peak : {"read_gb_s", "int8_gops", "fp32_gflops"})
    EXPECT_GT(*json::find_number(roof, peak), 0.1) << peak;
  std::multiset<std::string> tests;
  for (const auto& v : *json::find_array(o, "results")) {
    const json::object& b = v.get_object();
    tests.insert(fmt::format("{} {} {} {}", *json::find_text(b, "test"), *json::find_number(b, "tokens"),
                             *json::find_number(b, "depth"), *json::find_number(b, "batch")));
    EXPECT_GT(*json::find_number(b, "operations"), 0);
    const json::object& speed = *json::find_object(b, "tok_s");
    EXPECT_GT(*json::find_number(speed, "min"), 0);
    EXPECT_LE(*json::find_number(speed, "min"), *json::find_number(speed, "median"));
    EXPECT_LE(*json::find_number(speed, "median"), *json::find_number(speed, "max"));
    EXPECT_GT(*json::find_number(b, "roofline_fraction"), 0);
    EXPECT_NE(json::find_object(*json::find_object(b, "profile"), "attention"), nullptr);
    if (*json::find_text(b, "test") != "step") continue;
    EXPECT_GT(*json::find_number(b, "outside_operations"), 0);
    EXPECT_LT(*json::find_number(b, "outside_operations"), 1);
  }
  EXPECT_EQ(tests, (std::multiset<std::string>{"prefill 32 0 1", "decode 4 0 1", "decode 4 0 3", "prefill 32 40 1",
                                               "prefill 40 0 1", "decode 4 40 1", "decode 4 40 3", "step 4 0 1"}));
  const auto only = run_process(
      {kWorker, "bench", "-m", "builtin:haiku", "-p", "0", "-n", "3", "-t", "1", "-r", "1", "--no-roofline", "--json"});
  ASSERT_EQ(only.exit_code, 0) << only.err;
  EXPECT_EQ(json::find_array(parsed(only.out), "results")->size(), 1U) << only.out;  // no prefill was asked for
}

/// One run of each test, and its results as "test tokens batch".
std::vector<std::string> benched(const std::string& model, std::vector<std::string> flags) {
  std::vector<std::string> arguments{kWorker, "bench", "-m", model, "-t", "1", "-r", "1", "--no-roofline", "--json"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  const auto r = run_process(arguments);
  if (r.exit_code != 0) return {fmt::format("{} {}", r.exit_code, r.err)};
  std::vector<std::string> out;
  const json::object report = parsed(r.out);
  for (const auto& v : *json::find_array(report, "results")) {
    const json::object& b = v.get_object();
    out.push_back(fmt::format("{} {} {}", *json::find_text(b, "test"), *json::find_number(b, "tokens"),
                              *json::find_number(b, "batch")));
  }
  if (out.empty()) out.emplace_back("no test");
  return out;
}

TEST(Bench, measures_what_the_model_s_context_allows) {
  using Lines = std::vector<std::string>;
  EXPECT_EQ(benched("builtin:haiku", {}), (Lines{"prefill 256 1", "decode 128 1"})) << "its context is 256";
  EXPECT_EQ(benched("builtin:haiku", {"-d", "200", "-p", "0"}), (Lines{"prefill 200 1", "decode 56 1"}));
  EXPECT_EQ(benched("builtin:haiku", {"-p", "0", "-n", "2", "-b", "200", "-d", "100"}),
            (Lines{"prefill 100 1", "decode 2 200"}))
      << "sequences are no positions";
  const auto said =
      run_process({kWorker, "bench", "-m", "builtin:haiku", "-n", "1", "-t", "1", "-r", "1", "--no-roofline"});
  EXPECT_NE(said.out.find("the model's context is 256: -p 256 -n 1\n"), std::string::npos) << said.out << said.err;
  const auto refused = [&](std::vector<std::string> flags, int exit_code, std::initializer_list<const char*> words) {
    const std::string out = benched("builtin:haiku", std::move(flags)).front();
    EXPECT_TRUE(out.starts_with(std::to_string(exit_code) + " ")) << out;
    for (const char* word : words) EXPECT_NE(out.find(word), std::string::npos) << word << " in " << out;
  };
  refused({"-p", "0", "-n", "0"}, 2, {"-p 0 and -n 0: there is nothing to measure"});
  refused({"-d", "100000"}, 1, {"100000", "context is 256"});
  refused({"-p", "200", "-d", "0,100"}, 1, {"200 tokens behind 100 positions", "context of 256"});
  refused({"-b", "300", "-p", "1", "-n", "1"}, 2, {"-b 300", "256 rows"});
}

TEST(Bench, an_encoder_is_measured_with_texts_alone) {
  LLORCH_NEED_TEST_DATA(model, "models/zoo/bert/model-f32.gguf");
  EXPECT_EQ(benched(model, {"-n", "100000", "-d", "100000"}), std::vector<std::string>{"encode 64 1"})
      << "it decodes nothing; its context is 64";
  const std::string nothing = benched(model, {"-p", "0"}).front();
  EXPECT_TRUE(nothing.starts_with("2 ") && nothing.contains("nothing to measure")) << nothing;
}

TEST(PackedCache, what_ends_before_it_has_written_leaves_no_folder) {
  ScratchDirectory d;
  ASSERT_EQ(run_process({kGguf, "synth", "--shape", "tiny-llama", "--type", "Q8_0", d / "m.gguf"}).exit_code, 0);
  const auto r = run_process(
      {kWorker, "generate", "-m", d / "m.gguf", "-p", "a", "--isa", "of nobody", "--packed-cache", d / "packed"});
  EXPECT_NE(r.exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists(d / "packed"));
  std::filesystem::create_directory(d / "mine");
  (void)run_process(
      {kWorker, "generate", "-m", d / "m.gguf", "-p", "a", "--isa", "of nobody", "--packed-cache", d / "mine"});
  EXPECT_TRUE(std::filesystem::exists(d / "mine")) << "it was there before";
}

TEST(Device, the_cpu_has_the_one_device_0) {
  for (const char* command : {"generate", "logits", "bench", "serve", "perplexity", "parity"}) {
    std::vector<std::string> arguments{kWorker, command, "-m", "builtin:haiku", "--device", "1"};
    if (std::string(command) == "logits") arguments.insert(arguments.end(), {"--tokens", "1", "--out", "/dev/null"});
    if (std::string(command) == "perplexity")
      arguments.insert(arguments.end(), {"--file", LLORCH_SOURCE_DIR "/LICENSE"});
    if (std::string(command) == "parity")
      arguments.insert(arguments.end(), {"--tokens", "1", "--against", "builtin:haiku"});
    const auto r = run_process(arguments);
    EXPECT_EQ(r.exit_code, 2) << command << r.err;
    EXPECT_NE(r.err.find("--device 1: the CPU has the one device 0"), std::string::npos) << command << r.err;
  }
}

TEST(Encoder, what_asks_for_text_is_refused) {
  LLORCH_NEED_TEST_DATA(model, "models/zoo/bert/model-f32.gguf");
  const std::vector<std::vector<std::string>> asked{{"perplexity", "-m", model, "--file", LLORCH_SOURCE_DIR "/LICENSE"},
                                                    {"parity", "-m", model, "--against", model, "--tokens", "1,2,3"},
                                                    {"generate", "-m", model, "-p", "a"}};
  for (std::vector<std::string> arguments : asked) {
    arguments.insert(arguments.begin(), kWorker);
    const auto r = run_process(arguments);
    EXPECT_EQ(r.exit_code, 2) << arguments[1] << r.err;
    EXPECT_NE(r.err.find("this model gives embeddings and no text"), std::string::npos) << arguments[1] << r.err;
  }
}

TEST(Bench, measures_texts_of_an_encoder_which_has_nothing_to_decode) {
  LLORCH_NEED_TEST_DATA(model, "models/zoo/bert/model-f32.gguf");
  for (const char* texts : {"8", "60"}) {  // in one pass, in several
    const auto r = run_process({kWorker, "bench", "-m", model, "-p", "9", "-n", "0", "-b", texts, "-t", "1", "-r", "1",
                                "--no-roofline", "--json"});
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const json::object report = parsed(r.out);
    const auto results = json::find_array(report, "results");
    ASSERT_EQ(results->size(), 1U) << r.out;
    const json::object& result = results->at(0).get_object();
    EXPECT_EQ(json::find_text(result, "test"), "encode");
    EXPECT_EQ(fmt::format("{}", *json::find_number(result, "batch")), texts);
    EXPECT_GT(*json::find_number(*json::find_object(result, "tok_s"), "min"), 0);
  }
}

}  // namespace
}  // namespace llorch
