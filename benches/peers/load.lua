-- For wrk: what to send is in METHOD, BODY and HEADERS ("Name: value" lines); figures come out as JSON.
wrk.method = os.getenv("METHOD")
wrk.body = os.getenv("BODY")
for name, value in os.getenv("HEADERS"):gmatch("([^:\n]+): ([^\n]+)") do
  wrk.headers[name] = value
end

-- So many answers, where the time does not end it.
local left = tonumber(os.getenv("COUNT"))
if left then
  function response()
    left = left - 1
    if left == 0 then
      wrk.thread:stop()
    end
  end
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"rate": %.3f, "p50": %.3f, "p99": %.3f, "requests": %d, "errors": %d}\n',
    summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000,
    latency:percentile(99) / 1000,
    summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout
  ))
end
