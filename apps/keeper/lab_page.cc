// The lab's report as one page: no scripts, nothing that is fetched.
#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "keeper/lab_run.h"

namespace llorch::keeper {
namespace {

constexpr const char* kColors[] = {"#0b63ce", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0e7490",
                                   "#a16207", "#be185d", "#4d7c0f", "#475569", "#1e40af", "#9a3412"};
constexpr int kWide = 900, kHigh = 240, kLeft = 60;

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}
std::string text_in(const json::object& o, const char* key) { return json::find_text(o, key).value_or(""); }
std::optional<double> number_in(const json::object& o, const char* key) {
  const auto* v = o.if_contains(key);
  return v ? json::as_number(*v) : std::nullopt;
}
std::string shown_number(const json::object& o, const char* key, const char* unit = "") {
  const auto v = number_in(o, key);
  return v ? fmt::format("{:.3g}{}", *v, unit) : "no number";
}

void add_row(std::string& out, const json::object& e, std::size_t color) {
  const auto& about = e.at("about").get_object();
  const auto same = number_in(e, "same_token");
  std::string findings;
  for (const json::value& f : *json::find_array(e, "findings"))
    findings += fmt::format("<br><b>{}</b> {}", escaped(text_in(f.get_object(), "kind")),
                            escaped(text_in(f.get_object(), "text")));
  fmt::format_to(std::back_inserter(out),
                 "<tr><td><i style='background:{}'></i>{}</td><td>{} {}</td><td>{}; {}</td><td>{}</td><td>{}</td>"
                 "<td>{}</td><td>{}</td><td>{}</td><td class='{}'>{}{}</td></tr>\n",
                 kColors[color % std::size(kColors)], escaped(text_in(e, "name")), escaped(text_in(about, "engine")),
                 escaped(text_in(about, "version")), escaped(text_in(about, "weights")),
                 escaped(text_in(about, "arithmetic")), shown_number(e, "kl_mean"), shown_number(e, "kl_max"),
                 same ? fmt::format("{:.1f} %", 100 * *same) : "-", shown_number(e, "max_abs"),
                 shown_number(e, "garbage_percent", " %"), text_in(e, "verdict"), text_in(e, "verdict"), findings);
}

/// One line for each engine over the positions, on a logarithmic scale from 10^low to 10^high.
void add_plot(std::string& out, const json::array& engines, const char* key, int low, int high, double ids) {
  fmt::format_to(std::back_inserter(out), "<svg viewBox='0 0 {} {}' role='img'>\n", kWide, kHigh + 20);
  const auto y_of = [&](double v) {
    const double at = std::clamp((std::log10(std::max(v, 1e-300)) - low) / (high - low), 0.0, 1.0);
    return 10 + (kHigh - 20) * (1 - at);
  };
  for (int power = low; power <= high; power += std::max(1, (high - low) / 6))
    fmt::format_to(std::back_inserter(out),
                   "<line x1='{}' x2='{}' y1='{:.1f}' y2='{:.1f}' stroke='#ddd'/><text x='4' y='{:.1f}'>1e{}</text>\n",
                   kLeft, kWide, y_of(std::pow(10, power)), y_of(std::pow(10, power)), y_of(std::pow(10, power)) + 4,
                   power);
  std::size_t color = 0;
  for (const json::value& v : engines) {
    std::string points;
    for (const json::value& p : *json::find_array(v.get_object(), "positions"))
      if (const auto value = number_in(p.get_object(), key))
        fmt::format_to(std::back_inserter(points), "{:.1f},{:.1f} ",
                       kLeft + (kWide - kLeft) * *number_in(p.get_object(), "position") / std::max(ids - 1, 1.0),
                       y_of(*value));
    fmt::format_to(std::back_inserter(out),
                   "<polyline points='{}' fill='none' stroke='{}'><title>{}</title></polyline>\n", points,
                   kColors[color++ % std::size(kColors)], escaped(text_in(v.get_object(), "name")));
  }
  out += "</svg>\n";
}

/// Layers downwards, positions to the right: from white (1e-8 of the truth's norm) to dark (1).
void add_map(std::string& out, const json::object& e) {
  const auto& layers = e.at("layers").get_object();
  const auto &names = *json::find_array(layers, "names"), &rows = *json::find_array(layers, "difference");
  if (names.empty()) return;
  constexpr int kCells = 60, kCell = 12;
  const std::string first = text_in(e, "first_layer");
  fmt::format_to(std::back_inserter(out), "<h3>{}{}</h3><svg viewBox='0 0 {} {}'>\n", escaped(text_in(e, "name")),
                 first.empty() ? "" : ": beyond its tolerance from " + escaped(first) + " on", kWide,
                 kCell * static_cast<int>(names.size()) + 4);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const json::array& row = rows[i].get_array();
    const std::size_t cells = std::min<std::size_t>(kCells, row.size());
    for (std::size_t c = 0; c < cells; ++c) {
      double worst = 0;
      for (std::size_t p = c * row.size() / cells; p < (c + 1) * row.size() / cells; ++p)
        worst = std::max(worst, json::as_number(row[p]).value_or(1));
      const double dark = std::clamp((std::log10(std::max(worst, 1e-9)) + 8) / 8, 0.0, 1.0);
      fmt::format_to(
          std::back_inserter(out),
          "<rect x='{}' y='{}' width='12' height='11' fill='hsl(210,80%,{:.0f}%)'><title>{} {:.2g}</title></rect>",
          110 + static_cast<int>(c) * 13, kCell * static_cast<int>(i), 97 - 75 * dark,
          escaped(std::string_view(names[i].get_string())), worst);
    }
    fmt::format_to(std::back_inserter(out), "<text x='2' y='{}'>{}</text>\n", kCell * static_cast<int>(i) + 10,
                   escaped(std::string_view(names[i].get_string())));
  }
  out += "</svg>\n";
}

}  // namespace

std::string lab_page(const json::object& report) {
  const json::array& engines = *json::find_array(report, "engines");
  const bool states = json::find_text(report, "rows_are") == "states";
  const auto ids = static_cast<double>(json::find_array(report, "ids")->size());
  std::string out = fmt::format(
      "<!doctype html><html lang='en'><meta charset='utf-8'><title>parity of {0}</title><style>"
      "body{{font:15px/1.45 system-ui,sans-serif;max-width:980px;margin:2em auto;padding:0 1em;color:#1b1b1b}}"
      "table{{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}}"
      "td,th{{border-bottom:1px solid #ddd;padding:4px 8px;text-align:left;vertical-align:top}}"
      "i{{display:inline-block;width:10px;height:10px;margin-right:6px}}svg{{width:100%;font-size:10px}}"
      ".bug{{color:#b91c1c;font-weight:600}}.open{{color:#a16207;font-weight:600}}</style>\n"
      "<h1>Parity of {0}</h1><p>{1:.0f} ids; the truth is <b>{2}</b> ({3}). {5} "
      "Verdict: <b class='{4}'>{4}</b></p>\n<table><tr><th>engine<th>version<th>weights; arithmetic<th>{6}, "
      "mean<th>{6}, "
      "largest<th>same token<th>largest difference<th>garbage<th>verdict</tr>\n",
      escaped(text_in(report, "model")), ids, escaped(text_in(report, "truth")),
      escaped(text_in(report.at("truth_about").get_object(), "arithmetic")), text_in(report, "verdict"),
      states ? "Rows are states of tokens, compared by 1 - their cosine."
             : "KL divergences are in nats, from the truth.",
      states ? "1 - cosine" : "KL");
  std::size_t color = 0;
  for (const json::value& e : engines) add_row(out, e.get_object(), color++);
  out += "</table>\n";
  for (const json::value& f : *json::find_array(report, "outliers"))
    out += "<p><b>outlier</b> " + escaped(text_in(f.get_object(), "text")) + "</p>\n";
  for (const json::value& n : *json::find_array(report, "not_run"))
    out += fmt::format("<p>not run: {} ({})</p>\n", escaped(text_in(n.get_object(), "name")),
                       escaped(text_in(n.get_object(), "reason")));
  out += fmt::format("<h2>{} by position</h2>\n", states ? "1 - cosine" : "KL divergence");
  add_plot(out, engines, "kl", -15, 1, ids);
  if (!states) {
    out += "<h2>Rank of the truth's token by position (1e0 and below: the first or second)</h2>\n";
    add_plot(out, engines, "truth_rank", 0, 3, ids);
  }
  out +=
      "<h2>Differences by layer and position</h2><p>The norm of the difference to the norm of the truth: white is "
      "1e-8, dark is 1.</p>\n";
  for (const json::value& e : engines) add_map(out, e.get_object());
  return out + "</html>\n";
}

}  // namespace llorch::keeper
