// One of many units of a large program with debug information: what templates of the standard library leave in one.
//
// Compiled once for each UNIT, a number; every name below lies in a namespace of the unit's own, so that nothing is
// shared between units.

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#define JOIN(a, b) a##b
#define NAME(a, b) JOIN(a, b)

namespace NAME(unit, UNIT) {

struct Point {
    int x, y;
    bool operator<(const Point &other) const { return x != other.x ? x < other.x : y < other.y; }
    bool operator==(const Point &other) const { return x == other.x && y == other.y; }
};

struct Hash {
    size_t operator()(const Point &point) const { return size_t(point.x) * 31 + size_t(point.y); }
};

using Value = std::variant<int, double, std::string, std::vector<Point>>;

struct Node {
    std::string name;
    std::map<std::string, Value> fields;
    std::vector<std::unique_ptr<Node>> children;
    std::unordered_map<Point, std::shared_ptr<Node>, Hash> index;
};

template <class Map> void fill(Map &map, int count) {
    for (int i = 0; i < count; i++)
        map[{i * 7919 % 1009, i}].push_back(std::to_string(i));
}

template <class List> auto sorted(List list) {
    std::stable_sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    return list;
}

std::string shown(const Value &value) {
    std::ostringstream out;
    std::visit(
        [&](const auto &what) {
            if constexpr (std::is_same_v<std::decay_t<decltype(what)>, std::vector<Point>>)
                for (auto &point : what)
                    out << point.x << ',' << point.y << ';';
            else
                out << what;
        },
        value);
    return out.str();
}

struct Table {
    std::map<Point, std::vector<std::string>> ordered;
    std::unordered_map<Point, std::vector<std::string>, Hash> hashed;
    std::deque<std::function<size_t(const std::string &)>> actions;
    std::set<std::vector<int>> seen;

    size_t run(int count) {
        fill(ordered, count);
        fill(hashed, count);
        actions.push_back([this](const std::string &text) { return ordered.size() + text.size(); });
        actions.push_back([this](const std::string &text) { return hashed.size() * text.size(); });
        size_t sum = 0;
        std::regex pattern("([a-z]+)[0-9]*(x|yz)?");
        for (auto &[point, texts] : ordered) {
            seen.insert(sorted(std::vector<int>{point.x, point.y, int(texts.size())}));
            for (auto &text : texts) {
                std::smatch match;
                sum += std::regex_search(text, match, pattern) ? match.size() : 1;
                for (auto &action : actions)
                    sum += action(text);
            }
        }
        return sum;
    }
};

Node tree(int depth) {
    Node node;
    node.name = "node" + std::to_string(depth);
    node.fields["depth"] = depth;
    node.fields["text"] = node.name;
    node.fields["points"] = std::vector<Point>{{depth, 1}, {1, depth}};
    for (int i = 0; i < depth; i++) {
        node.children.push_back(std::make_unique<Node>(tree(depth - 1)));
        node.index[{i, depth}] = std::make_shared<Node>();
    }
    return node;
}

size_t all(int count) {
    Table table;
    size_t sum = table.run(count);
    Node root = tree(3);
    for (auto &[name, value] : root.fields)
        sum += shown(value).size();
    return std::accumulate(root.children.begin(), root.children.end(), sum,
                           [](size_t so_far, auto &child) { return so_far + child->fields.size(); });
}

} // namespace NAME(unit, UNIT)

size_t NAME(all_of_, UNIT)(int count) { return NAME(unit, UNIT)::all(count); }
