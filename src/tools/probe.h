// Renders a template with probing conversations: one assistant's turn each, between known words.
//
// Threads: one. Errors: those of the template (kInvalidRequest), of a text that is too long to be looked at, and of the
// limit, after which limit.charge() fails too.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "jinja/template.h"
#include "tools/format.h"
#include "tools/learn.h"

namespace llorch::tools {

/// Words that no template holds; none is a part of another.
namespace probe {
inline constexpr std::string_view kUser = "Zqask", kText = "Zqtext", kAnswer = "Zqanswer";
inline constexpr std::string_view kNames[] = {"zq_first", "zq_other"}, kIds[] = {"zqid00001", "zqid00002"};
inline constexpr std::string_view kKeys[] = {"zqa_key", "zqb_key"}, kValues[] = {"Zqvalue1x", "Zqvalue2y"};
inline constexpr std::int64_t kInteger = 73501;
/// Stand for a name and for an id in texts that are compared.
inline constexpr char kNameMark = '\1', kIdMark = '\2';
}  // namespace probe

class Prober {
 public:
  Prober(const jinja::Template& chat, const LearnOptions& options, WorkLimit& limit)
      : template_(chat), options_(options), limit_(limit) {}

  /// How the history is handed over.
  struct Manner {
    bool arguments_as_text = false, functions = false, long_ids = false;
    ToolFormat::Content content = ToolFormat::Content::kEmpty;
  } manner;

  [[nodiscard]] Result<std::string> prompt() const;                         // a question, and the answer is to begin
  [[nodiscard]] Result<std::string> answered(std::string_view text) const;  // a question and a text
  /// A question and calls: the arguments of each, `text` in front where not empty.
  [[nodiscard]] Result<std::string> called(const std::vector<boost::json::object>& calls,
                                           std::string_view text = {}) const;
  /// A call, its answer, and a text.
  [[nodiscard]] Result<std::string> whole_turn() const;

 private:
  [[nodiscard]] Result<std::string> render(const boost::json::array& messages, bool prompt) const;
  [[nodiscard]] boost::json::object calling(const std::vector<boost::json::object>& calls, std::string_view text) const;

  const jinja::Template& template_;
  const LearnOptions& options_;
  WorkLimit& limit_;
};

/// Names and ids replaced by their marks.
[[nodiscard]] std::string marked(std::string_view text);

}  // namespace llorch::tools
