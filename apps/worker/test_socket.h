// A plain socket to a worker of the same process, for tests.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace llorch::worker {

/// `receive_bytes`: size of the socket's buffer; 0: the system's choice.
inline int connect_to(int port, int receive_bytes = 0) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (receive_bytes > 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const timeval limit{20, 0};  // nothing may wait for ever
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

/// Sends a request and reads until the peer closes or `enough` says so; returns what came.
template<class Enough>
std::string exchange(int port, const std::string& text, const Enough& enough) {
  const int fd = connect_to(port);
  EXPECT_EQ(send(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  std::string all;
  char part[4096];
  for (ssize_t n; !enough(all) && (n = recv(fd, part, sizeof part, 0)) > 0;)
    all.append(part, static_cast<std::size_t>(n));
  close(fd);
  return all;
}

template<class Enough>
std::string get_until(int port, const std::string& path, const Enough& enough) {
  return exchange(port, "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", enough);
}

inline std::string post(int port, const std::string& path, const std::string& body) {
  return exchange(port,
                  "POST " + path +
                      " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Correlation-Id: posted-1\r\n"
                      "Content-Type: application/json\r\nContent-Length: " +
                      std::to_string(body.size()) + "\r\n\r\n" + body,
                  [](const std::string&) { return false; });
}

}  // namespace llorch::worker
