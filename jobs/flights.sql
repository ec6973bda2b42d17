-- Departures from New York in 2013. Each criterion that is not given leaves everything in.
SELECT scheduled_at, carrier, flight, tailnum, origin, dest, dep_delay, arr_delay, air_time, distance
FROM flights
WHERE (:origin IS NULL OR origin = :origin)
  AND (:carrier IS NULL OR carrier = :carrier)
  AND (:from IS NULL OR scheduled_at >= :from)
  AND (:until IS NULL OR scheduled_at < :until)
ORDER BY scheduled_at
