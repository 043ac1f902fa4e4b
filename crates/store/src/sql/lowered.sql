-- The groups whose capacity lowered their rates in epochs of a time range.
SELECT g.group_name, count(*) AS epochs, min(g.remaining) AS remaining, max(g.demand) AS demand,
       min(g.capacity) AS capacity
FROM epoch_groups g JOIN epochs e USING (epoch)
WHERE g.remaining < 1 AND e.ends_at > $1 AND e.opened_at < $2
GROUP BY g.group_name
ORDER BY g.group_name
