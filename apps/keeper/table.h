// Tables for people: aligned columns, figures with units.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <vector>

namespace llorch::keeper {

/// A field of a row: "-" where there is none. Fields whose names end with _bytes, _s or _s_ago are sizes, durations and
/// times that have passed; other fractions have at most six digits and no exponent.
[[nodiscard]] std::string cell(const boost::json::value& row, std::string_view field);
/// The name of a field without its unit.
[[nodiscard]] std::string_view column_name(std::string_view field);

/// Lines of cells under `header`, indented by `indent` columns. Columns of figures are aligned at their ends.
[[nodiscard]] std::string table_text(const std::vector<std::string>& header,
                                     const std::vector<std::vector<std::string>>& rows, std::size_t indent = 0);

struct Fitting {
  std::size_t columns = 0;               // of the screen; 0: any number
  std::vector<std::string_view> leaves;  // columns of the table that are left out where it is too wide, the first first
  std::string_view shrinks;              // then this one's cells lose their beginnings
};
/// The same in the width that there is.
[[nodiscard]] std::string table_text(std::vector<std::string> header, std::vector<std::vector<std::string>> rows,
                                     std::size_t indent, const Fitting& fitting);

/// On stdout: fields of JSON rows, or of one, under the names of their columns.
void print_table(const boost::json::value& rows, const std::vector<const char*>& fields);

}  // namespace llorch::keeper
