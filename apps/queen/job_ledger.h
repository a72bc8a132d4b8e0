// What is kept of the queen's jobs over a restart: gathered on the loop, written on the background thread.
//
// Never a prompt. Threads: the event loop's.
#pragma once

#include <map>
#include <string>

#include "queen/catalog.h"
#include "queen/open_request.h"
#include "service/background.h"
#include "service/job_desk.h"

namespace llorch::queen {

class JobLedger {
 public:
  JobLedger(service::JobDesk& desk, service::Background& background, Metrics& metrics)
      : desk_(desk), background_(background), metrics_(metrics) {}
  /// Before anything is kept; jobs that a queen before us left open become failed ones that can be read.
  void open(Catalog& catalog);
  /// Keeps a new job until on_ended(), which writes the last of it and ends `request`.
  void begin(JobRow row, OpenRequestPtr request);
  /// Of an open job; null once it has ended: its procedure may go on a little longer.
  [[nodiscard]] JobRow* find(const std::string& job_id);
  void save(JobRow& row);
  /// How far the streams of open jobs are, those that have gone on.
  void save_marks();
  void on_ended(const job::Job& job);
  [[nodiscard]] std::size_t open_jobs() const { return jobs_.size(); }

 private:
  struct Entry {
    JobRow row;
    OpenRequestPtr request;
  };
  void mark(JobRow& row);
  service::JobDesk& desk_;
  service::Background& background_;
  Metrics& metrics_;
  Catalog* catalog_ = nullptr;
  std::map<std::string, Entry> jobs_;
};

}  // namespace llorch::queen
