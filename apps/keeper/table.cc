#include "keeper/table.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/human.h"
#include "base/status_line.h"
#include "base/terminal.h"

namespace llorch::keeper {
namespace {

constexpr std::string_view kAgo = "_s_ago", kSeconds = "_s", kBytes = "_bytes";

bool is_figure(std::string_view cell) { return cell == "-" || (!cell.empty() && cell[0] >= '0' && cell[0] <= '9'); }

/// Whether a column has figures, and nothing else.
bool has_figures(const std::vector<std::vector<std::string>>& rows, std::size_t column) {
  bool any = false;
  for (const auto& row : rows) {
    if (!is_figure(row[column])) return false;
    any |= row[column] != "-";
  }
  return any;
}

/// Columns of the screen that each column of a table takes.
std::vector<std::size_t> widths_of(const std::vector<std::string>& header,
                                   const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < header.size(); ++i) {
    widths.push_back(columns_of(header[i]));
    for (const auto& row : rows) widths[i] = std::max(widths[i], columns_of(row[i]));
  }
  return widths;
}

}  // namespace

std::string cell(const boost::json::value& row, std::string_view field) {
  const auto* o = row.if_object();
  const auto* v = o ? o->if_contains(field) : nullptr;
  if (!v || v->is_null()) return "-";
  if (v->is_string()) return std::string(v->get_string());
  if (!v->is_number()) return boost::json::serialize(*v);
  const auto number = v->to_number<double>();
  if (field.ends_with(kAgo)) return duration_text(number) + " ago";
  if (field.ends_with(kSeconds)) return duration_text(number);
  if (field.ends_with(kBytes)) return size_text(number);
  if (!v->is_double()) return boost::json::serialize(*v);
  std::string text = fmt::format("{:.6g}", number);
  return text.contains('e') ? fmt::format("{:.6f}", number) : text;
}

std::string_view column_name(std::string_view field) {
  for (const std::string_view unit : {kAgo, kBytes, kSeconds})
    if (field.ends_with(unit) && field != "tok_s") return field.substr(0, field.size() - unit.size());
  return field;
}

std::string table_text(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows,
                       std::size_t indent) {
  const std::vector<std::size_t> widths = widths_of(header, rows);
  std::vector<bool> figures;
  for (std::size_t i = 0; i < header.size(); ++i) figures.push_back(has_figures(rows, i));
  std::string text;
  const auto add = [&](const std::vector<std::string>& cells) {
    std::string line(indent, ' ');
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths[i] - columns_of(cells[i]), ' ');
      line += (i > 0 ? "  " : "") + (figures[i] ? padding + cells[i] : cells[i] + padding);
    }
    line.resize(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  };
  add(header);
  for (const auto& row : rows) add(row);
  return text;
}

namespace {

/// The end of a text, behind a mark that its beginning is missing.
std::string end_of(const std::string& text, std::size_t columns) {
  if (columns_of(text) <= columns) return text;
  const auto inside = [&](std::size_t i) {  // of a character's bytes
    return i < text.size() && (static_cast<unsigned char>(text[i]) & 0xc0u) == 0x80u;
  };
  std::size_t begin = 1;
  while (begin < text.size() && (inside(begin) || columns_of(std::string_view(text).substr(begin)) + 1 > columns))
    ++begin;
  return "…" + text.substr(begin);
}

}  // namespace

std::string table_text(std::vector<std::string> header, std::vector<std::vector<std::string>> rows, std::size_t indent,
                       const Fitting& fitting) {
  constexpr std::size_t kGap = 2, kLeast = 8;
  const auto width = [&] {
    std::size_t all = indent;
    for (const std::size_t each : widths_of(header, rows)) all += each + kGap;
    return all - kGap;
  };
  const auto place_of = [&](std::string_view name) { return std::ranges::find(header, name) - header.begin(); };
  const bool bounded = fitting.columns > 0;
  for (const std::string_view name : fitting.leaves) {
    const auto at = place_of(name);
    if (!bounded || width() <= fitting.columns || at == std::ssize(header)) continue;
    header.erase(header.begin() + at);
    for (auto& row : rows) row.erase(row.begin() + at);
  }
  const auto at = static_cast<std::size_t>(place_of(fitting.shrinks));
  if (const std::size_t taken = width(); bounded && taken > fitting.columns && at < header.size()) {
    const std::size_t own = widths_of(header, rows)[at], over = taken - fitting.columns;
    for (auto& row : rows) row[at] = end_of(row[at], std::max(kLeast, own - std::min(own, over)));
  }
  return table_text(header, rows, indent);
}

void print_table(const boost::json::value& rows, const std::vector<const char*>& fields) {
  std::vector<std::string> header;
  for (const char* field : fields) header.emplace_back(column_name(field));
  std::vector<std::vector<std::string>> cells;
  const auto add = [&](const boost::json::value& row) {
    auto& line = cells.emplace_back();
    for (const char* field : fields) {
      line.push_back(cell(row, field));
      std::ranges::replace(line.back(), '\n', ' ');
    }
  };
  if (rows.is_array())
    std::ranges::for_each(rows.get_array(), add);
  else
    add(rows);
  show_text(stdout, table_text(header, cells));
}

}  // namespace llorch::keeper
