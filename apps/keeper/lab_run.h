// The parity lab at work: the same ids through our own arithmetics and through every reference that is installed, each
// in a process of its own, one after another (P-25, P-30). What is compared, and how, is in lab.h.
//
// A reference is a program of the folder <tools>/references, run by the Python of its own environment; its protocol is
// in tools/parity/reference.py. Nothing here knows which engines there are.
#pragma once

#include <atomic>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "format/json.h"
#include "keeper/lab.h"

namespace llorch::keeper {

struct LabOptions {
  std::string model;                // a GGUF file, a folder, builtin:haiku
  std::string text, tokens;         // a file; or ids separated by commas
  std::optional<int> ids_max;       // of the text's, the first so many; else kIdsDefault, as far as the context goes
  std::string references = "auto";  // all that are installed; "none"; or names, separated by commas
  std::string without;              // a reference that is not run all the same
  std::string tools, environments;  // folders; empty: found beside this program
  std::vector<std::string> given;   // NAME=PATH: logits that somebody has computed, a .npy file or a folder
  std::string truth;                // which engine the others are measured by; empty: the reference that says it is
  std::string keep;                 // a folder that keeps what the engines wrote; empty: one that is removed
  bool quick = false;               // without reference arithmetic and scalar kernels, which take minutes
  int limit_s = 1800;               // of one engine
  bool quiet = false;               // else what runs is said on stderr
  const std::atomic<bool>* called_off = nullptr;  // once it is true, what runs is ended
  static constexpr int kIdsDefault = 362;
};

/// One reference as its file describes it.
struct ReferenceFile {
  std::string name, path, environment;
  bool truth = false, documented_only = false, wants_f32 = false, folders_as_f32 = false;
};
/// By name. Empty where there is no such folder.
[[nodiscard]] std::vector<ReferenceFile> find_references(const std::string& tools);
/// The folder tools/parity of the checkout that this program was built in; empty: there is none.
[[nodiscard]] std::string lab_tools();

/// The report, as `--json` prints it: model, ids, truth, rows_are (logits or states), perplexity (of the truth, over
/// the ids), engines (each with its positions, findings and layers), outliers, not_run (name and reason), verdict.
/// Errors: kInvalidRequest for a text, files or names that are none, before anything runs; kModelLoadFailed where our
/// own worker cannot run the model; kCancelled.
[[nodiscard]] Result<json::object> run_lab(const LabOptions& options);

/// What one engine's rows are to another's, from the folders in which run_lab() kept them: kl_mean, kl_max, same_token;
/// and the perplexity of the second. `states`: rows are these. Errors: kInvalidRequest for files that are none.
[[nodiscard]] Result<json::object> compare_kept(const std::string& truth, const std::string& folder,
                                                std::span<const std::int64_t> ids, bool states);

struct StudyOptions {
  std::vector<std::string> models;  // files or folders
  std::vector<std::string> types;   // each GGUF file is written with its matrices in these, too
  LabOptions lab;                   // of each run; `model` is not looked at
};
/// Of each model as it is stored, and with its matrices in other types: what the type costs (the file's exact result
/// beside the stored one's), and what each engine makes of that file, measured by its exact result. The exact result is
/// the truth's of the stored file, and our reference arithmetic's of the others. A model that cannot be run is an entry
/// that says why.
/// Errors: those of run_lab(), where it is the only model.
[[nodiscard]] Result<json::object> run_study(const StudyOptions& options);
/// The document that is made of a study's JSON. Errors: kInvalidRequest where it is none.
[[nodiscard]] Result<std::string> study_document(const json::object& study);

/// A page that a person can look at, of a report; stands alone.
[[nodiscard]] std::string lab_page(const json::object& report);

}  // namespace llorch::keeper
